"use strict";
// What stands around the fleet: hubs with their last mint, operations, and the app's own runs.

const MOST_OPERATIONS = 6;
const RUNNING = ["Queued", "Running"];

function drawHubs() {
  const hubs = fleet.status?.hubs ?? [];
  const runs = hubs.map((hub) => diagnoses.get(hubRoute(hub.name)) ?? null);
  redraw(byId("hubs"), { hubs, runs }, () =>
    hubs.length ? hubs.map(drawHub) : make("p", { class: "none" }, "The setting HUBS names none."),
  );
}

const hubRoute = (name) => `hubs/${encodeURIComponent(name)}/diagnosis`;

function drawHub(hub) {
  const { name, registries, fault, lastMint, expiresAt, mintSeconds, warning, failure } = hub;
  const took = mintSeconds === null ? null : ` in ${mintSeconds.toFixed(1)} s`;
  const tone = fault || failure ? "bad" : warning ? "warn" : lastMint ? "ok" : "muted";
  return make(
    "article",
    { "data-tone": tone },
    make(
      "div",
      { class: "heading" },
      make("h3", {}, viewLink({ hub: name }, name, { title: "Its clusters" })),
      diagnoseButton(hubRoute(name), `hub ${name}`),
    ),
    make("p", {}, fault ?? ["Last mint ", ago(lastMint), lastMint && took].filter(Boolean)),
    lastMint && lifeBar({ expiresAt, issuedAt: lastMint }),
    make("p", { class: "quiet" }, registries.join(", ")),
    [failure, warning].filter(Boolean).map(problemBox),
    drawDiagnosis(hubRoute(name)),
  );
}

function drawOperations() {
  const { operations = [], counts = {} } = fleet.operations ?? {};
  const running = operations.filter((one) => RUNNING.includes(one.status));
  const listed = [...running, ...operations.filter((one) => !RUNNING.includes(one.status))].slice(0, MOST_OPERATIONS);
  const order = [...RUNNING, "AwaitingFederation", "Failed", "Succeeded"].filter((status) => counts[status]);
  const text = order.map((status) => `${number(counts[status])} ${OPERATION_WORDS[status].word}`).join(", ");
  redraw(byId("operations"), { listed, text }, () => [make("p", {}, text || "None yet."), operationList(listed, true)]);
}

/** Operations as links to their steps. named: with the name of the cluster. */
function operationList(operations, named) {
  const items = operations.map((one) => {
    const { word, tone } = OPERATION_WORDS[one.status];
    const kind = `${one.kind}${one.dryRun ? " (dry run)" : ""}`;
    const link = viewLink({ operation: one.id }, named ? `${kind} ${clusterName(one.cluster)}` : kind);
    return make(
      "li",
      {},
      make("span", { class: "state", "data-tone": tone }, word),
      link,
      make("span", { class: "quiet" }, ago(one.createdAt)),
    );
  });
  return make("ul", { class: "operations" }, items);
}

function drawApp() {
  const { version, lastRun, totals, queues } = fleet.status ?? {};
  redraw(byId("app"), { version, lastRun, overdue: totals?.overdue, queues }, () => {
    const facts = [
      ["Last run", ago(lastRun)],
      ["Overdue shards", totals ? number(totals.overdue) : "unknown"],
      ...Object.entries(queues ?? {}).map(([name, messages]) => [`Queue ${name}`, count(messages, "message")]),
      ["Version", version ?? "unknown"],
    ];
    return make(
      "dl",
      {},
      facts.map(([term, fact]) => make("div", {}, make("dt", {}, term), make("dd", {}, fact))),
    );
  });
}
