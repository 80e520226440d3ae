"use strict";
// What opens beside the fleet: one cluster with its targets, operations and diagnosis, or one operation.

/** key: what is open. cluster, targets, operations or operation: what is loaded of it. */
let panel = { key: "" };

function panelKey() {
  if (view.operation) return `operation ${view.operation}`;
  return view.cluster ? `cluster ${view.cluster}` : "";
}

const closePanel = () => show({ cluster: "", operation: "" });

function drawPanel() {
  const key = panelKey();
  const dialog = byId("panel");
  if (key !== panel.key) {
    panel = { key, opener: panel.key ? panel.opener : placeOf(document.activeElement) };
    if (key) loadPanel();
  }
  if (key && !dialog.open) dialog.showModal();
  if (!key && dialog.open) {
    dialog.close();
    focusOpener();
  }
  if (!key) return;
  const { opener, ...model } = panel;
  const run = view.cluster && diagnoses.get(`${clusterRoute(view.cluster)}/diagnosis`);
  redraw(byId("panel-body"), { ...model, run, refused: fleet.refused?.shown }, () =>
    view.operation ? drawOperationPanel() : drawClusterPanel(),
  );
}

/** Where an element is found if it is drawn anew: its key, and the part of the page. Others may have the same key. */
const placeOf = (element) => ({ key: element.dataset.key, part: element.closest("[id]")?.id });

/** The browser returns the focus itself, unless the element was drawn anew meanwhile. */
function focusOpener() {
  const focused = document.activeElement; // in the closed panel, until the browser draws it
  if (focused !== document.body && !byId("panel").contains(focused)) return;
  const { key, part } = panel.opener;
  [...(byId(part) ?? document).querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();
}

async function loadPanel() {
  const own = panel;
  try {
    if (view.operation) {
      await followOperation(
        view.operation,
        (operation) => panel === own && drawWith({ operation }),
        () => panel === own,
      );
      if (panel === own) hurry();
    } else await loadCluster(own);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (panel === own) drawWith({ problem: error.shown });
  }
}

/** Load a cluster, with as many pages of targets as are shown. */
async function loadCluster(own) {
  const route = clusterRoute(view.cluster);
  const pages = own.pages ?? 1;
  const targets = [];
  let continuation = null;
  let cluster = null;
  const operations = call("GET", `operations?cluster=${encodeURIComponent(view.cluster)}`);
  operations.catch(() => {}); // awaited below
  for (let page = 0; page < pages && (continuation || !page); page += 1) {
    cluster = await call("GET", continuation ? `${route}?continuation=${encodeURIComponent(continuation)}` : route);
    targets.push(...cluster.targets);
    continuation = cluster.continuation;
  }
  const found = { cluster, targets, continuation, operations: (await operations).operations, problem: null };
  if (panel === own) drawWith(found);
}

function drawWith(changes) {
  Object.assign(panel, changes);
  drawPanel();
}

/** Load the open cluster again. An operation is followed anyway. */
async function followPanel() {
  if (panel.key && !view.operation) await loadPanel();
}

async function refresh(route, title) {
  try {
    const { queued } = await call("POST", route);
    fleet.refused = null;
    announce(`Refresh of ${title} is queued (${count(queued, "message")}).`);
    hurry();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    showRefusal(error);
  }
}

function drawOperationPanel() {
  const { operation, problem } = panel;
  const back = view.cluster && viewLink({ operation: "" }, `Back to ${clusterName(view.cluster)}`);
  if (problem) return [panelTitle("Operation"), back, problemBox(problem)];
  if (!operation) return [panelTitle("Operation"), make("p", { class: "working" }, "Loading")];
  const other =
    !view.cluster && viewLink({ cluster: operation.cluster, operation: "" }, `Open ${clusterName(operation.cluster)}`);
  return [
    panelTitle(`${operation.kind} ${clusterName(operation.cluster)}`),
    back || other,
    drawOperation(operation),
  ];
}

const panelTitle = (text) => make("h2", { id: "panel-title", tabindex: -1 }, text);

function drawClusterPanel() {
  const { cluster, targets, continuation, operations, problem } = panel;
  const name = clusterName(view.cluster);
  const { subscription, group } = clusterParts(view.cluster);
  const title = [panelTitle(name), make("p", { class: "quiet" }, `${group}, subscription ${subscription}`)];
  if (problem) return [...title, problemBox(problem)];
  if (!cluster) return [...title, make("p", { class: "working" }, "Loading")];
  const route = clusterRoute(view.cluster);
  const total = sum(Object.values(cluster.states));
  const more = () => {
    panel.pages = (panel.pages ?? 1) + 1;
    loadPanel();
  };
  return [
    ...title,
    make(
      "p",
      {},
      `Hub ${cluster.hub ?? "of its own"}, refreshed ${cluster.refresher === "central" ? "by the app" : "by itself"}, next due `,
      dueIn(cluster.nextDue),
    ),
    make(
      "div",
      { class: "actions" },
      make(
        "button",
        { class: "primary", "data-key": "refresh one", click: () => refresh(`${route}/refresh`, name) },
        "Refresh now",
      ),
      diagnoseButton(`${route}/diagnosis`, name),
    ),
    fleet.refused && problemBox(fleet.refused.shown),
    cluster.search?.category && problemBox(cluster.search),
    make("h3", {}, `Targets (${number(total)})`),
    make("ul", { class: "targets" }, targets.map(drawTarget)),
    continuation &&
      make("button", { "data-key": "more", click: more }, `Show more: ${number(total - targets.length)} are left`),
    make("h3", {}, "Operations"),
    operations.length ? operationList(operations, false) : make("p", { class: "none" }, "None in the last 90 days."),
    make("h3", {}, "Diagnosis"),
    drawDiagnosis(`${route}/diagnosis`) ??
      make(
        "p",
        { class: "none" },
        "Diagnose checks each hop, from the app's identity to the pods, and changes nothing.",
      ),
  ];
}

function dueIn(time) {
  if (!time) return "never";
  const at = Date.parse(time);
  return ticking(make("time", { datetime: time }), (element) =>
    setText(element, at > serverNow() ? `in ${duration(at - serverNow())}` : "now"),
  );
}

function drawTarget(target) {
  return make(
    "li",
    { "data-tone": STATES[target.state]?.tone },
    make(
      "div",
      { class: "heading" },
      make("strong", {}, target.target),
      stateBadge(target.state),
      lifeBar(target),
      make("span", { class: "quiet" }, "last success ", ago(target.lastSuccess)),
    ),
    target.category && problemBox(target),
    target.note && make("p", {}, target.note),
  );
}
