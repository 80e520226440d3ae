"use strict";
// What is known of the fleet, loaded again and again while somebody looks.

const fleet = {
  status: null,
  operations: null,
  /** Lines of clusters by their ids. */
  lines: new Map(),
  /** Whether every cluster has been loaded once, and how many of them now. */
  complete: false,
  loaded: 0,
  asOf: null,
  /** Problems of the last load, and of the last thing that somebody asked for. */
  failures: [],
  refused: null,
  paused: false,
};

let loading = null;
let timer;
let hurryUntil = 0;

/** Milliseconds between two loads. A large fleet has many pages, and each costs the app something. */
function period() {
  if (Date.now() < hurryUntil) return 2000;
  return Math.max(10_000, Math.ceil(fleet.lines.size / 100) * 3000);
}

/** Load everything. Where one route fails, the others are shown all the same. */
async function load() {
  const failures = [];
  const take = async (route, read) => {
    try {
      await read(route);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      failures.push(error);
    }
    requestDraw();
  };
  await Promise.all([
    take("status", async (route) => (fleet.status = await call("GET", route))),
    take("operations", async (route) => (fleet.operations = await call("GET", route))),
    take("clusters", loadLines),
  ]);
  if (failures.some((one) => one.status === 401)) return askForAccess(failures.find((one) => one.status === 401));
  fleet.failures = failures;
  if (!failures.length) fleet.asOf = Date.now();
}

/** Load the pages of the fleet, and show each as it comes. */
async function loadLines(route) {
  const seen = new Set();
  let continuation = null;
  do {
    const page = await call("GET", continuation ? `${route}?continuation=${encodeURIComponent(continuation)}` : route);
    for (const line of page.clusters) {
      fleet.lines.set(line.cluster, line);
      seen.add(line.cluster);
    }
    fleet.loaded = seen.size;
    continuation = page.continuation;
    requestDraw();
  } while (continuation);
  for (const id of fleet.lines.keys()) if (!seen.has(id)) fleet.lines.delete(id);
  fleet.complete = true;
}

/** Load now, unless a load is under way, and again after a while. */
async function keepLoading() {
  clearTimeout(timer);
  if (document.hidden || byId("main").hidden) return;
  loading ??= load();
  try {
    await loading;
  } finally {
    loading = null;
    clearTimeout(timer);
    if (!fleet.paused) timer = setTimeout(keepLoading, period());
  }
  await followPanel();
  requestDraw();
}

/** Look more often for a while: something is about to change. */
function hurry() {
  hurryUntil = Date.now() + 20_000;
  clearTimeout(timer);
  timer = setTimeout(keepLoading, 1000);
}

function setPaused(paused) {
  fleet.paused = paused;
  if (paused) clearTimeout(timer);
  else keepLoading();
  requestDraw();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !fleet.paused) keepLoading();
});

/** How many secrets are in each state: of all clusters, once they are loaded. */
function totals() {
  if (!fleet.complete) return fleet.status?.totals?.targets ?? {};
  const states = {};
  for (const line of fleet.lines.values()) {
    for (const [state, targets] of Object.entries(line.states)) states[state] = (states[state] ?? 0) + targets;
  }
  return states;
}
