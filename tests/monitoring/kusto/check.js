// Checks queries with Microsoft's language service, and lists the properties of records that they read.
//
// Reads {"tables": {TABLE: {COLUMN: TYPE}}, "queries": [TEXT]}. Writes for each query {"faults": [TEXT], "uses": [{"table",
// "names": [TEXT], "properties": [[NAME, FUNCTION]]}]}, with a use for each pipe. table: what the pipe begins with. names: of
// the records that it selects (`Name ==`, `Name in`). FUNCTION: what converts the property, "" for nothing.
"use strict";

globalThis.Bridge = require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");

const { GlobalState, KustoCode, Symbols, Syntax } = globalThis.Kusto.Language;
const LISTS = new Set(["SeparatedElement", "SyntaxList", "ExpressionList"]);

const typeOf = (node) => globalThis.Bridge.getTypeName(node).split("[")[0].split(".").pop().split("`")[0];

function declare(tables) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const schema = Object.entries(columns).map(([column, type]) => `${column}: ${type}`);
    return new Symbols.TableSymbol.$ctor7(name, `(${schema.join(", ")})`, null);
  });
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor1("workspace", symbols));
}

function findFaults(code) {
  const found = code.GetDiagnostics();
  return Array.from({ length: found.Count }, (_, index) => found.getItem(index)).map(
    (one) => `${one.Severity} ${one.Code} at ${one.Start}: ${one.Message}`,
  );
}

/** Return what a pipe begins with, and the whole of the pipe that a node is in. */
function findPipe(node) {
  let whole = null;
  for (let at = node; at; at = at.Parent) {
    if (typeOf(at) === "PipeExpression") whole = at;
    else if (whole) break;
  }
  let first = whole;
  while (first && typeOf(first) === "PipeExpression") first = first.Expression;
  return { whole, table: first && typeOf(first) === "NameReference" ? first.SimpleName : null };
}

function findConversion(node) {
  let parent = node.Parent;
  while (LISTS.has(typeOf(parent))) parent = parent.Parent;
  return typeOf(parent) === "FunctionCallExpression" ? parent.Name.SimpleName : "";
}

function literals(node) {
  const found = [];
  Syntax.SyntaxElement.WalkElements(node, (at) => {
    if (typeOf(at) === "LiteralExpression") found.push(at.LiteralValue);
  });
  return found;
}

function isProperty(node, type) {
  const isAccess = type === "PathExpression" || type === "ElementExpression";
  return isAccess && typeOf(node.Expression) === "NameReference" && node.Expression.SimpleName === "Properties";
}

function findUses(code) {
  const uses = new Map();
  const use = (node) => {
    const { whole, table } = findPipe(node);
    if (!uses.has(whole)) uses.set(whole, { table, names: [], properties: [] });
    return uses.get(whole);
  };
  Syntax.SyntaxElement.WalkElements(code.Syntax, (node) => {
    const type = typeOf(node);
    if (isProperty(node, type)) {
      const name = type === "PathExpression" ? node.Selector.SimpleName : literals(node.Selector)[0];
      use(node).properties.push([name, findConversion(node)]);
    } else if (type === "InExpression" || (type === "BinaryExpression" && node.Operator.Text === "==")) {
      if (node.Left.ToString() === "Name") use(node).names.push(...literals(node.Right));
    }
  });
  return [...uses.values()];
}

const { tables, queries } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const globals = declare(tables);
const checked = queries.map((query) => {
  const code = KustoCode.ParseAndAnalyze(query, globals);
  return { faults: findFaults(code), uses: findUses(code) };
});
process.stdout.write(JSON.stringify(checked));
