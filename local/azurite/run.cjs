// Azurite that ends with whoever started it: the other end of standard input closes then, on every system.
process.stdin.on("end", () => process.exit()).resume();
require("azurite/dist/src/azurite.js");
