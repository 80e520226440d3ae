"use strict";
// What is broken: failures grouped by category, each with what to type and where to read.

const MOST_LISTED = 20;
const NAMED = 5;

/** Groups of failures, the most urgent first: {title, tone, entries}. An entry names a hub, a cluster, or neither. */
function findProblems() {
  const groups = new Map();
  const add = (title, tone, entry) => {
    const group = groups.get(title) ?? { title, tone: "warn", entries: [] };
    if (tone === "bad") group.tone = "bad";
    group.entries.push(entry);
    groups.set(title, group);
  };
  for (const problem of fleet.status?.problems ?? []) {
    add(problem.setting ?? "settings", problem.severity === "error" ? "bad" : "warn", problem);
  }
  for (const hub of fleet.status?.hubs ?? []) {
    if (hub.failure) add(hub.failure.category, "bad", { ...hub.failure, hub: hub.name });
    if (hub.warning) add(hub.warning.category, "warn", { ...hub.warning, hub: hub.name });
  }
  if (fleet.status?.totals?.overdue) add("refresh_stopped", "bad", overdue(fleet.status));
  for (const line of fleet.lines.values()) {
    const { worst, search, cluster } = line;
    if (worst?.category) add(worst.category, worst.state === "stale" ? "warn" : "bad", { ...worst, cluster });
    if (search?.category && search.category !== worst?.category) add(search.category, "warn", { ...search, cluster });
  }
  for (const group of groups.values()) group.entries.sort((one, other) => urgency(one) - urgency(other));
  const order = (group) => (group.tone === "bad" ? 0 : Number.MAX_SAFE_INTEGER / 2) + urgency(group.entries[0]) / 2;
  return [...groups.values()].sort((one, other) => order(one) - order(other));
}

/** Causes come before what they cause: a hub, which stops all its clusters, then the secret that expires first. */
function urgency({ cluster, expiresAt }) {
  if (!cluster) return 0;
  return expiresAt ? Date.parse(expiresAt) : 1;
}

function overdue({ totals, documentation }) {
  return {
    detail: `${count(totals.overdue, "shard")} of the fleet ${totals.overdue === 1 ? "is" : "are"} overdue: no run has refreshed it in time.`,
    remedy: "See whether the timer runs, and restart the app: az functionapp restart --ids <function app id>",
    runbook: documentation ? `${documentation}/docs/runbook/refresh_stopped.md` : null,
  };
}

function drawProblems(groups) {
  byId("broken").hidden = !groups.length;
  setText(byId("broken-count"), String(groups.length));
  redraw(byId("problems"), groups, () => groups.map(drawGroup));
}

function drawGroup({ title, tone, entries }) {
  const clusters = entries.filter((entry) => entry.cluster);
  const hubs = entries.filter((entry) => entry.hub).map((entry) => `hub ${entry.hub}`);
  const reach = [...hubs, ...(clusters.length ? [count(clusters.length, "cluster")] : [])];
  const soonest = clusters.find((entry) => entry.expiresAt);
  const [first] = entries;
  const others = clusters.length > 1 && clusters.some((entry) => entry.remedy !== first.remedy);
  return make(
    "article",
    { "data-tone": tone },
    make(
      "div",
      { class: "heading" },
      make("h3", {}, title),
      make("span", { class: "reach" }, reach.join(" · ")),
      soonest && firstExpiry(soonest),
    ),
    make("p", { class: "detail" }, first.detail),
    first.remedy && copyable(first.remedy, `remedy for ${first.cluster ? clusterName(first.cluster) : title}`),
    others && remedies(title, clusters),
    make("footer", {}, pageLink(first.runbook, "Runbook"), namedClusters(title, clusters)),
  );
}

function firstExpiry({ expiresAt }) {
  return ticking(make("span", { class: "deadline" }), (element) => {
    const left = Date.parse(expiresAt) - serverNow();
    setText(element, left > 0 ? `first expires in ${duration(left)}` : `expired ${duration(-left)} ago`);
  });
}

/** The remedy of each cluster, where they differ: most name the cluster. */
function remedies(title, clusters) {
  const items = clusters
    .slice(0, MOST_LISTED)
    .map((entry) =>
      make(
        "li",
        {},
        clusterLink(entry.cluster),
        entry.remedy && copyable(entry.remedy, `remedy for ${clusterName(entry.cluster)}`),
      ),
    );
  const summary =
    clusters.length > MOST_LISTED ? `The remedies of the first ${MOST_LISTED} clusters` : "The remedy of each cluster";
  return make(
    "details",
    { "data-key": `remedies ${title}` },
    make("summary", { "data-key": `open ${title}` }, summary),
    make("ul", {}, items),
  );
}

function namedClusters(title, clusters) {
  const links = clusters.slice(0, NAMED).map((entry) => clusterLink(entry.cluster));
  if (clusters.length > NAMED)
    links.push(viewLink({ text: title, state: "", hub: "" }, `list all ${number(clusters.length)}`));
  return make("span", { class: "links" }, links);
}

/** One failure: of a call, a step, a target or a hop. */
function problemBox({ title, category, detail, remedy, runbook }) {
  return make(
    "div",
    { class: "problem" },
    make(
      "p",
      {},
      category && make("code", { class: "category" }, category),
      " ",
      title && make("strong", {}, title),
      " ",
      detail,
    ),
    remedy && copyable(remedy, `remedy for ${category ?? title}`),
    pageLink(runbook, "Runbook"),
  );
}
