"use strict";
// The start: takes the key, listens to the page's fixed elements, and loads.

let drawRequested = false;

/** Draw once with the next frame, however much has arrived by then. */
function requestDraw() {
  if (drawRequested) return;
  drawRequested = true;
  requestAnimationFrame(() => {
    drawRequested = false;
    drawAll();
  });
}

function drawAll() {
  if (byId("main").hidden) return;
  const problems = findProblems();
  drawSummary(problems);
  drawProblems(problems);
  drawHubs();
  drawOperations();
  drawApp();
  drawTable();
  drawPanel();
  redraw(byId("failures"), fleet.failures.map((one) => one.shown), (shown) => shown.map(problemBox));
  redraw(byId("as-of"), { at: fleet.asOf }, ({ at }) => (at ? ["As of ", make("time", {}, new Date(at).toLocaleTimeString())] : "Loading"));
  setText(byId("pause"), fleet.paused ? "Resume" : "Pause");
  byId("pause").title = fleet.paused ? "Load again by itself" : `Loads again every ${duration(period())}. Stop that`;
}

function showFailure(problem) {
  if (problem.status === 401) return askForKey(problem);
  fleet.failures = [problem];
  announce(problem.message);
  drawAll();
}

/** Show the form for the key. problem: why the last call was refused. */
async function askForKey(problem) {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  byId("main").hidden = byId("tools").hidden = true;
  byId("sign-in").hidden = false;
  setText(byId("refused"), problem.title);
  sessionStorage.removeItem(KEY);
  byId("key").focus();
  const entra = await fetch("/.auth/me", { redirect: "manual" }).catch(() => null);
  byId("entra").hidden = !entra || entra.status === 404;
  byId("entra-link").href = `/.auth/login/aad?post_login_redirect_uri=${encodeURIComponent(location.pathname + location.search)}`;
}

function start() {
  byId("sign-in").hidden = true;
  byId("main").hidden = byId("tools").hidden = false;
  byId("forget").hidden = !hasKey();
  drawAll();
  keepLoading();
}

function signIn(event) {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("key").value = "";
  start();
}

function forgetKey() {
  sessionStorage.removeItem(KEY);
  location.reload();
}

function listen() {
  byId("sign-in-form").addEventListener("submit", signIn);
  byId("forget").addEventListener("click", forgetKey);
  byId("pause").addEventListener("click", () => setPaused(!fleet.paused));
  byId("refresh").addEventListener("click", () => refresh("refresh", "the whole fleet"));
  byId("open-onboarding").addEventListener("click", openOnboarding);
  for (const name of ["state", "hub", "text"]) {
    byId(`filter-${name}`).addEventListener("input", (event) => show({ [name]: event.target.value }));
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    show({ state: "", hub: "", text: "" });
    byId("filter-text").focus();
  });
  byId("rows").addEventListener("keydown", stepThroughRows);
  addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(drawRows));
  byId("panel").addEventListener("cancel", (event) => {
    event.preventDefault();
    closePanel();
  });
  byId("panel-close").addEventListener("click", closePanel);
  byId("onboard-form").addEventListener("submit", plan);
  byId("onboard-form").addEventListener("input", forgetPlan);
  byId("onboard-close").addEventListener("click", () => byId("onboarding").close());
}

takeKeyFromAddress();
listen();
start();
