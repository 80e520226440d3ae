"use strict";
// The clusters, filtered, the one that needs attention first. Only the rows in sight are in the page.

const BEYOND = 8; // rows above and below those in sight, for the next step of a key
const OWN_HUB = "(own)"; // no hub of the setting can have this name

const rows = new Map(); // elements by the clusters' ids
const digests = new WeakMap(); // of lines
let listed = [];

/** What a line is found and sorted by. */
function digest(line) {
  if (!digests.has(line)) {
    const { cluster, hub, worst, search } = line;
    const { subscription, group, name } = clusterParts(cluster);
    const texts = [
      name,
      group,
      subscription,
      hub,
      worst?.target,
      worst?.state,
      worst?.category,
      worst?.detail,
      worst?.note,
      search?.category,
    ];
    const rank = worst ? Object.keys(STATES).indexOf(worst.state) : Object.keys(STATES).length;
    const due = worst?.state !== "fresh" && worst?.expiresAt ? worst.expiresAt : "";
    digests.set(line, { text: texts.filter(Boolean).join("\n").toLowerCase(), rank, due, name: name ?? cluster });
  }
  return digests.get(line);
}

function compareLines(one, other) {
  const [a, b] = [digest(one), digest(other)];
  return (
    a.rank - b.rank || (a.due < b.due ? -1 : a.due > b.due ? 1 : 0) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  );
}

function isListed(line) {
  if (view.state && !line.states[view.state]) return false;
  if (view.hub && (line.hub ?? OWN_HUB) !== view.hub) return false;
  return digest(line).text.includes(view.text.trim().toLowerCase());
}

function drawTable() {
  const lines = [...fleet.lines.values()];
  listed = lines.filter(isListed).sort(compareLines);
  const total = fleet.complete ? lines.length : Math.max(lines.length, fleet.status?.totals?.clusters ?? 0);
  const progress = fleet.complete ? "" : `, ${number(fleet.loaded)} loaded`;
  setText(byId("listed"), `${number(listed.length)} of ${count(total, "cluster")}${progress}`);
  byId("table").setAttribute("aria-rowcount", listed.length + 1);
  byId("nothing").hidden = listed.length > 0 || !fleet.complete;
  drawFilters(lines);
  drawRows();
}

function drawFilters(lines) {
  const names = new Set([
    ...(fleet.status?.hubs ?? []).map((hub) => hub.name),
    ...lines.map((line) => line.hub ?? OWN_HUB),
  ]);
  const hubs = [...names, view.hub].filter((name, index, all) => name && all.indexOf(name) === index).sort();
  const option = (name) => make("option", { value: name }, name === OWN_HUB ? "a hub of its own" : name);
  redraw(byId("filter-hub"), hubs, () => [make("option", { value: "" }, "all hubs"), ...hubs.map(option)]);
  redraw(byId("filter-state"), {}, () =>
    ["", ...Object.keys(STATES)].map((state) => make("option", { value: state }, state || "all states")),
  );
  for (const name of ["state", "hub", "text"]) {
    const field = byId(`filter-${name}`);
    if (field !== document.activeElement && field.value !== view[name]) field.value = view[name];
  }
  byId("clear").hidden = !view.state && !view.hub && !view.text;
}

/** Draw the rows in sight, and the one with the focus wherever it is. A row that stays is not moved. */
function drawRows() {
  const box = byId("rows");
  const height = Number.parseFloat(getComputedStyle(box).getPropertyValue("--row"));
  const top = box.getBoundingClientRect().top;
  const clamp = (index) => Math.min(listed.length, Math.max(0, index));
  // Some rows are always there, for those who do not see how far away they are.
  const first = Math.min(clamp(Math.floor(-top / height) - BEYOND), clamp(listed.length - BEYOND));
  const last = Math.max(clamp(Math.ceil((innerHeight - top) / height) + BEYOND), clamp(BEYOND));
  box.style.height = `${listed.length * height}px`;
  const focused = document.activeElement.closest?.("#rows > [role=row]")?.dataset.cluster;
  const pinned = focused === undefined ? -1 : listed.findIndex((line) => line.cluster === focused);
  const wanted = new Map();
  if (pinned >= 0 && pinned < first) wanted.set(listed[pinned].cluster, pinned);
  for (let index = first; index < last; index += 1) wanted.set(listed[index].cluster, index);
  if (pinned >= 0 && pinned >= last) wanted.set(listed[pinned].cluster, pinned);
  for (const [id, row] of rows) {
    if (wanted.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  let place = box.firstChild;
  for (const [id, index] of wanted) {
    const row = rows.get(id) ?? make("div", { role: "row", "data-cluster": id });
    rows.set(id, row);
    if (row === place) place = place.nextSibling;
    else box.insertBefore(row, place);
    row.setAttribute("aria-rowindex", index + 2);
    row.style.transform = `translateY(${index * height}px)`;
    redraw(row, listed[index], drawCells);
  }
  if (focused !== undefined && document.activeElement === document.body)
    rows.get(focused)?.querySelector("a").focus({ preventScroll: true });
}

function drawCells(line) {
  const { cluster, hub, states, worst, search } = line;
  const { group, subscription } = clusterParts(cluster);
  const cell = (name, ...children) => make("div", { role: "cell", class: name }, ...children);
  const several = sum(Object.values(states)) > 1;
  const category = worst?.category ?? search?.category;
  return [
    cell("name", clusterLink(cluster), make("small", { title: subscription }, group)),
    cell("hub", hub ?? "a hub of its own"),
    cell(
      "states",
      stateBadge(worst?.state ?? "unknown"),
      several &&
        make(
          "small",
          {},
          Object.entries(states)
            .map(([state, targets]) => `${number(targets)} ${state}`)
            .join(", "),
        ),
    ),
    cell("token", lifeBar(worst)),
    cell("success", worst?.lastSuccess ? ago(worst.lastSuccess) : "never"),
    cell(
      "message",
      category
        ? [make("code", { class: "category" }, category), " ", worst?.detail ?? search?.detail]
        : (worst?.note ?? search?.note ?? ""),
    ),
  ];
}

/** Arrows go from row to row. */
function stepThroughRows(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest("#rows > [role=row]");
  if (!step || !row) return;
  event.preventDefault();
  const next = listed[listed.findIndex((line) => line.cluster === row.dataset.cluster) + step];
  rows.get(next?.cluster)?.querySelector("a").focus();
}
