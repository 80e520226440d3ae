"use strict";
// The first thing to see: how many secrets are safe, and how much life their tokens have left.

const COLUMNS = 12;

/** One sentence about the whole fleet, and its tone. */
function verdict(states, problems) {
  const total = secretsIn(states);
  const failed = [
    [states.expired, "has expired", "have expired"],
    [states.pending, "is not written yet", "are not written yet"],
    [states.stale, "could not be refreshed and still works", "could not be refreshed and still work"],
  ].filter(([targets]) => targets);
  if (failed.length) {
    const parts = failed.map(
      ([targets, one, many], index) =>
        `${index ? number(targets) : count(targets, "secret")} ${targets === 1 ? one : many}`,
    );
    const urgent = states.expired || problems.some((group) => group.tone === "bad");
    return { tone: urgent ? "bad" : "warn", text: `${parts.join(", ")}.` };
  }
  if (!total) return { tone: "muted", text: fleet.complete ? "No cluster is in the fleet yet." : "Loading the fleet" };
  const safe = states.fresh === total ? `All ${count(total, "secret")} are safe` : "No failure is known";
  if (!problems.length) return { tone: "ok", text: `${safe}.` };
  return {
    tone: "warn",
    text: `${safe}, but ${problems.length === 1 ? "something is" : `${problems.length} things are`} broken.`,
  };
}

/** Secrets that are kept: those of namespaces that have lost the labels are not. */
const secretsIn = (states) => sum(Object.values(states)) - (states.removed ?? 0);

function drawSummary(problems) {
  const states = totals();
  const { tone, text } = verdict(states, problems);
  redraw(byId("verdict"), { text }, () => text);
  byId("summary").dataset.tone = tone;
  document.title = `${states.expired ? `${number(states.expired)} expired · ` : tone === "ok" ? "✓ " : "! "}Pullkeeper`;
  redraw(byId("safe"), states, drawSafe);
  redraw(byId("states"), { states, selected: view.state }, ({ states }) => drawStates(states));
  const lines = [...fleet.lines.values()];
  const shares = lines.map((line) => lifeLeft(line.worst)).filter((share) => share !== null);
  const columns = Array(COLUMNS).fill(0);
  for (const share of shares) columns[Math.min(COLUMNS - 1, Math.floor(share * COLUMNS))] += 1;
  redraw(byId("chart"), columns, drawChart);
}

function drawSafe(states) {
  const total = secretsIn(states);
  return [
    make("strong", {}, number(states.fresh ?? 0)),
    make("span", {}, ` of ${count(total, "secret")} ${total === 1 ? "is" : "are"} safe`),
  ];
}

/** A bar of all secrets by state, and a button for each state that lists its clusters. */
function drawStates(states) {
  const found = Object.keys(STATES).filter((state) => states[state]);
  const bar = make("div", { class: "stack", "aria-hidden": "true" });
  for (const state of found) {
    const part = make("span", { "data-tone": STATES[state].tone });
    part.style.flexGrow = states[state];
    bar.append(part);
  }
  const buttons = found.map((state) => {
    const pressed = view.state === state;
    const options = {
      "data-tone": STATES[state].tone,
      "data-key": `state ${state}`,
      "aria-pressed": String(pressed),
      title: STATES[state].meaning,
      click: () => show({ state: pressed ? "" : state }),
    };
    return make("button", options, make("b", {}, number(states[state])), ` ${state}`);
  });
  return [bar, make("div", { class: "legend", role: "group", "aria-label": "Secrets by state" }, buttons)];
}

/** Clusters by the life that is left of the token that expires first. */
function drawChart(columns) {
  const highest = Math.max(1, ...columns);
  const bars = columns.map((clusters, index) => {
    const from = Math.round((index / COLUMNS) * 100);
    const to = Math.round(((index + 1) / COLUMNS) * 100);
    const bar = make("span", {
      "data-tone": lifeTone(index / COLUMNS),
      title: `${from} to ${to} %: ${count(clusters, "cluster")}`,
    });
    bar.style.height = clusters ? `${Math.max(4, (clusters / highest) * 100)}%` : "0";
    return bar;
  });
  const half = sum(columns.slice(COLUMNS / 2));
  const text = `${number(half)} of ${count(sum(columns), "cluster")} have at least half of the token's life left.`;
  return [
    make("div", { class: "bars", role: "img", "aria-label": text }, bars),
    make(
      "div",
      { class: "scale", "aria-hidden": "true" },
      ["0 %", "50 %", "100 %"].map((label) => make("span", {}, label)),
    ),
  ];
}
