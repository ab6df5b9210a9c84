// Reads /v1/console every two seconds and shows it. Counts only grow, so rates are differences of two answers.
const EVERY_MS = 2000;
const KEPT = 150; // points of the live chart
const UTC = { title: { text: "UTC", standoff: 4 } }; // time axis: Plotly draws ISO strings unchanged, but a Date in the reader's time zone
const VERDICTS = { FRESH: "good", WATCH: "watch", STALE: "bad" };
const $ = (id) => document.getElementById(id);
const rates = [];
let before = null;
let shownRevision = null;
let task = null; // of the active versions; null before there is one
const PHRASES = { aspect: "Aspect, a phrase of the text", topic: "Topic, any phrase" };
const SHOWN_LABELS = 8; // with more labels a table shows only the answer's

function el(tag, props = {}, ...children) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}
const empty = (sentence) => el("p", { className: "empty", textContent: sentence });
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const time = (text) => (text ? `${new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "medium", timeZone: "UTC" })} UTC` : "");
const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString([], { maximumFractionDigits: digits });
const share = (value, digits = 1) => (value === null || value === undefined ? "–" : `${number(100 * value, digits)} %`);

// Plotly interprets tags, entities and links in every label, so texts of customers and operators are escaped here.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
export const chartLabel = (text) => String(text ?? "").replace(UNPRINTABLE, " ").replace(/[&<>]/g, (sign) => ENTITIES[sign]);
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function table(caption, columns, rows) {
  const head = el("tr", {}, ...columns.map(([name, kind]) => el("th", { scope: "col", className: kind || "", textContent: name })));
  const body = rows.map((row) =>
    el("tr", {}, ...row.map((cell, at) => {
      const made = el("td", { className: columns[at][1] || "" });
      made.append(cell instanceof Node ? cell : String(cell ?? "–"));
      return made;
    })));
  return el("table", {}, el("caption", { className: "skip", textContent: caption }), el("thead", {}, head), el("tbody", {}, ...body));
}

// Replaces the content of a place only if it changed, so that the reader's focus and selection stay.
function put(place, ...nodes) {
  const made = el("div", {}, ...nodes);
  const same = place.childNodes.length === made.childNodes.length && [...made.childNodes].every((node, at) => node.isEqualNode(place.childNodes[at]));
  if (!same) place.replaceChildren(...made.childNodes);
}

function plot(id, traces, layout = {}) {
  if (!window.Plotly) return;
  $(id).hidden = false; // visible before it is drawn, because it takes its present width
  const ink = style("--ink");
  const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
  const whole = {
    margin: { l: 45, r: 10, t: 10, b: 30 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { color: ink, size: 12 }, showlegend: false, ...layout,
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  };
  window.Plotly.react(id, traces, whole, { displayModeBar: false, responsive: true, staticPlot: id === "live-chart" });
}

function clear(id) {
  if ($(id).childElementCount) window.Plotly.purge(id);
  $(id).replaceChildren();
  $(id).hidden = true;
}

// Latency below which a share of the answers in a histogram is; `bounds` are the upper ends of its cells.
export function quantile(histogram, bounds, q) {
  const all = histogram.reduce((sum, count) => sum + count, 0);
  if (!all) return null;
  let seen = 0;
  for (let at = 0; at < histogram.length; at += 1) {
    const low = at ? bounds[at - 1] : 0;
    const high = at < bounds.length ? bounds[at] : low;
    if (histogram[at] && seen + histogram[at] >= q * all) return low + ((q * all - seen) / histogram[at]) * (high - low);
    seen += histogram[at];
  }
  return bounds.at(-1);
}

function difference(now, then) {
  const seconds = (now.at - then.at) / 1000;
  const known = new Map(then.live.arms.map((arm) => [`${arm.version} ${arm.arm}`, arm]));
  return now.live.arms.map((arm) => {
    const old = known.get(`${arm.version} ${arm.arm}`);
    const since = (name) => Math.max(0, arm[name] - (old ? old[name] : 0));
    const histogram = arm.histogram.map((count, at) => Math.max(0, count - (old ? old.histogram[at] : 0)));
    const failed = since("error") + since("timeout");
    return {
      version: arm.version, arm: arm.arm, histogram, shed: since("shed") / seconds, failed: failed / seconds,
      asked: (since("ok") + since("shed") + failed) / seconds,
    };
  });
}

function showLive(told) {
  const now = { at: performance.now(), live: told.live };
  const arms = before ? difference(now, before) : [];
  const sum = (name) => arms.reduce((total, arm) => total + arm[name], 0);
  const merged = arms.length ? arms[0].histogram.map((_, at) => arms.reduce((total, arm) => total + arm.histogram[at], 0)) : [];
  const asked = sum("asked");
  const p99 = quantile(merged, told.latency_bounds_ms, 0.99);
  rates.push({ at: new Date().toISOString(), asked });
  rates.splice(0, Math.max(0, rates.length - KEPT));
  const figure = (name, value) => el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }));
  put($("live-figures"),
    figure("requests/s", number(asked, asked < 10 ? 1 : 0)),
    figure("p99 of answers, ms", number(p99, 1)),
    figure("refused (429)", share(asked ? sum("shed") / asked : null)),
    figure("errors/s", number(sum("failed"), 1)),
    figure("workers ready", `${told.live.ready} of ${told.live.workers}`));
  plot("live-chart", [{ x: rates.map((each) => each.at), y: rates.map((each) => each.asked), mode: "lines", line: { color: style("--accent") } }],
    { xaxis: { ...UTC, nticks: 4, tickangle: 0 }, yaxis: { rangemode: "tozero", title: { text: "requests/s" } } });
  put($("live-table"), arms.length
    ? table("Live by version", [["Version"], ["Arm"], ["requests/s", "number"], ["p99, ms", "number"], ["refused", "number"], ["errors/s", "number"]],
      arms.map((arm) => [arm.version, arm.arm, number(arm.asked, 1), number(quantile(arm.histogram, told.latency_bounds_ms, 0.99), 1),
        share(arm.asked ? arm.shed / arm.asked : null), number(arm.failed, 1)]))
    : empty("No requests yet."));
  before = now; // only after the answer was drawn
}

function showTraffic(told) {
  if (!told.plan) return put($("traffic-body"), empty("There is no plan yet. The first version that passes the gate creates one."));
  const bar = el("div", { className: "bar" });
  bar.setAttribute("aria-hidden", "true");
  bar.append(...told.plan.arms.map((arm) => { const part = el("span"); part.style.flexGrow = arm.share; return part; }));
  return put($("traffic-body"),
    el("p", { textContent: `Mode ${told.plan.mode}${told.plan.experiment ? `, experiment ${told.plan.experiment}` : ""}, revision ${told.revision}.` }),
    bar,
    table("Arms", [["Arm"], ["Version"], ["Share", "number"]], told.plan.arms.map((arm) => [arm.name, arm.version, share(arm.share)])),
    ...Object.entries(told.errors).map(([version, sentence]) => el("p", { className: "bad", textContent: `Version ${version}: ${sentence}` })));
}

function showExperiment(experiment) {
  const looks = experiment ? experiment.looks.filter((look) => look.arms && Object.keys(look.arms).length) : [];
  const last = looks.at(-1);
  if (!last) {
    put($("experiment-sentence"), empty(experiment ? `Experiment ${experiment.name} has not been judged yet.` : "No experiment has run yet."));
    return clear("experiment-chart");
  }
  put($("experiment-sentence"), `${experiment.running ? "Running" : "Ended"}: ${experiment.name}. `,
    ...Object.values(last.arms).map((arm) => `${arm.decision.replaceAll("_", " ").toLowerCase()}: ${arm.sentence} `));
  const ab = looks.filter((look) => look.mode !== "shadow");
  const drawn = (ab.length ? ab : looks).map((look) => ({ at: look.at, ...Object.values(look.arms)[0] })).filter((look) => look.estimate !== undefined);
  if (!drawn.length) return clear("experiment-chart");
  const x = drawn.map((look) => look.at);
  const line = (name, more) => ({ x, y: drawn.map((look) => 100 * look[name]), mode: "lines+markers", hoverinfo: "y", ...more });
  const faint = { color: style("--soft"), width: 1 };
  return plot("experiment-chart", [
    line("low", { line: faint, marker: { size: 4 } }), line("high", { line: faint, marker: { size: 4 }, fill: "tonexty", fillcolor: "rgba(120,140,130,.2)" }),
    line("estimate", { line: { color: style("--accent"), width: 2 } }),
  ], { xaxis: UTC, yaxis: { title: { text: "gain, points" }, zeroline: true, zerolinewidth: 2 } });
}

function showDrift(verdicts, champions) {
  if (!verdicts || !verdicts.length) {
    put($("drift-sentence"), empty("No window has been judged yet."));
    put($("drift-table"));
    return clear("drift-chart");
  }
  const last = verdicts.at(-1);
  put($("drift-sentence"), "The last window is ", el("strong", { className: VERDICTS[last.verdict], textContent: last.verdict }),
    `. ${(last.reasons || []).join(" ")} ${last.action_reason || ""}`);
  const metric = task ? task.metric_name : "F1";
  const x = verdicts.map((each) => each.end);
  const y = verdicts.map((each) => each.f1 ?? each.estimated_f1);
  const label = (each) => `${each.verdict}: ${(each.reasons || [])[0] || each.action_reason || ""}`.replace(/(.{60}\S*) /g, "$1\n").split("\n").map(chartLabel).join("<br>");
  const retrained = verdicts.filter((each) => each.retrainings.length);
  const places = x.filter(Boolean);
  const lines = (champions || []).filter((each) => each.at >= places[0]).map((each) => ({
    type: "line", x0: each.at, x1: each.at, yref: "paper", y0: 0, y1: 1, line: { color: style("--accent"), dash: "dot" },
  }));
  const names = (champions || []).filter((each) => each.at >= places[0]).map((each) => ({
    x: each.at, y: 1, yref: "paper", yanchor: "bottom", text: chartLabel(`v${each.version}`), showarrow: false,
  }));
  plot("drift-chart", [
    { x, y: verdicts.map((each) => each.estimated_f1), name: "estimated", mode: "lines", line: { dash: "dot", color: style("--soft") }, hoverinfo: "skip" },
    { x, y, name: metric, mode: "lines+markers", text: verdicts.map(label), hoverinfo: "text+y", line: { color: style("--soft"), width: 1 },
      marker: { size: 11, color: verdicts.map((each) => style(`--${VERDICTS[each.verdict] || "soft"}`)),
        symbol: verdicts.map((each) => ({ FRESH: "circle", WATCH: "diamond", STALE: "x" })[each.verdict] || "circle") } },
    { x: retrained.map((each) => each.end), y: retrained.map(() => 0.02), yaxis: "y", name: "retraining", mode: "markers", hoverinfo: "text",
      text: retrained.map((each) => chartLabel(`retraining ${each.retrainings.at(-1).state}`)), marker: { symbol: "triangle-up", size: 12, color: style("--accent") } },
  ], { shapes: lines, annotations: names, showlegend: true, legend: { orientation: "h", y: 1.2, yanchor: "bottom" }, margin: { l: 45, r: 10, t: 24, b: 40 },
    xaxis: UTC, yaxis: { range: [0, 1], title: { text: metric } } });
  const promised = verdicts.some((each) => each.promise);
  put($("drift-table"), table("Windows",
    [["Until", "time"], ["Verdict"], ["Version"], ["Rows", "number"], ["Labels", "number"], ["F1", "number"], ["Estimated", "number"], ...(promised ? [["Certain", "number"], ["Promise kept", "number"]] : []), ["Action"], ["Reason"]],
    verdicts.toReversed().map((each) => [time(each.end), el("span", { className: VERDICTS[each.verdict], textContent: each.verdict }), each.version,
      number(each.rows), number(each.labelled), number(each.f1, 3), number(each.estimated_f1, 3),
      ...(promised ? [share(each.coverage), each.certain_labelled ? `${share(each.certain_right / each.certain_labelled)} of ${share(each.promise, 0)}` : "–"] : []), each.action, (each.reasons || []).join(" ") || each.action_reason])));
}

const STATES = { running: ["watch", "runs"], failed: ["bad", "failed"], lost: ["bad", "ended without a result"] };

function showTrainings(trainings, unfinished) {
  const state = (name, words) => el("span", { className: name, textContent: words });
  const done = (trainings || []).map((each) => [each.at, [time(each.at), each.version,
    state({ PROMOTE: "good", HOLD: "watch", REJECT: "bad" }[each.gate] || "", each.gate || "–"),
    number(each.budget_s), number(each.used_s), share(each.budget_s ? each.used_s / each.budget_s : null, 0), number(each.rows_seen), each.sentence]]);
  const others = (unfinished || []).map((each) => [each.at, [time(each.at), null, state(...STATES[each.state]),
    number(each.budget_s), number(null), share(null, 0), number(null), each.sentence || `requested by ${each.reason}`]]);
  const rows = [...done, ...others].sort(([one], [other]) => (one < other ? 1 : -1)).map(([, cells]) => cells);
  put($("trainings-table"), rows.length
    ? table("Trainings", [["Time", "time"], ["Version"], ["Result"], ["Budget, s", "number"], ["Used, s", "number"], ["Used", "number"], ["Rows seen", "number"], ["Reason"]], rows)
    : empty("No training yet."));
}

function showInsights(insights) {
  const rows = insights ? insights.rows.slice(0, 12) : [];
  if (!rows.length) {
    put($("insights-sentence"), empty(task ? `No ${task.phrase} has enough predictions in the last window.` : "No model answers yet."));
    return clear("insights-chart");
  }
  put($("insights-sentence"), `Window until ${time(insights.window_end)}: share of answers that are ${insights.label || "negative"}, with 95 % intervals.`);
  const share = (row) => row.share ?? row.negative_share; // earlier releases wrote negative_share
  const names = rows.map((row) => chartLabel(cut(row.segment ? `${row.segment}: ${row.aspect}` : row.aspect, 40)));
  const places = rows.map((_, at) => at); // Plotly would read some names as numbers or dates, if they were categories
  return plot("insights-chart", [{
    type: "bar", orientation: "h", y: places, x: rows.map(share), marker: { color: style("--accent") },
    error_x: { type: "data", symmetric: false, array: rows.map((row) => row.high - share(row)), arrayminus: rows.map((row) => share(row) - row.low), color: style("--ink") },
    text: rows.map((row) => `${row.rows} answers`), textposition: "none", hoverinfo: "text+x",
  }], { xaxis: { range: [0, 1], tickformat: ".0%" }, yaxis: { autorange: "reversed", tickvals: places, ticktext: names, showgrid: false, zeroline: false } });
}

function showCost(cost) {
  $("cost").hidden = !cost; // `evergreen cost` has not run yet
  if (!cost) return null;
  const usd = (value, digits) => (value === null || value === undefined ? "–" : `US$ ${number(value, digits)}`);
  const figure = (name, value) => el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }));
  return put($("cost-body"),
    el("dl", { className: "figures" }, figure("per million live", usd(cost.usd_per_million_live, 4)), figure("per million in batch", usd(cost.usd_per_million_batch, 4)),
      figure("per training, at most", usd(cost.usd_per_training, 3)), figure(`per month, ${cost.profile}`, usd(cost.usd_per_month, 0))),
    el("p", { textContent: `Projected from list prices for ${cost.setup.model} on ${cost.setup.host}${cost.setup.spot ? " spot" : ""}, ${time(cost.at)}.` }));
}

function showLedger(ledger) {
  put($("ledger-table"), ledger && ledger.length
    ? table("Ledger, newest first", [["No.", "number"], ["Time", "time"], ["Actor"], ["Action"], ["Champion"], ["Challenger"], ["Reason"]],
      ledger.map((each) => [each.number, time(each.at), each.actor, each.mode && each.action === "traffic" ? `${each.action} (${each.mode})` : each.action, each.champion, each.challenger, each.reason]))
    : empty("The ledger is empty."));
}

function showTask(now) {
  task = now ?? null;
  const phrase = task && task.phrase;
  $("try-phrase").hidden = !phrase;
  $("try-phrase").querySelector("input").required = Boolean(phrase);
  put($("try-phrase").querySelector("span"), phrase ? PHRASES[phrase] : "");
  $("insights").hidden = Boolean(task) && !phrase;
  put($("insights-title"), phrase ? `Insights by ${phrase}` : "Insights");
}

function showSummary(told, chronicle) {
  put($("summary"), told.champion
    ? el("span", {}, "Champion ", el("strong", { textContent: `version ${told.champion}` }),
      told.champion_since ? ` since ${time(told.champion_since)}` : "", told.challenger ? `; challenger version ${told.challenger}` : "")
    : "No champion yet");
  put($("links"), ...Object.entries({ ...told.links, "API": "docs" }).map(([name, href]) => el("a", { href, textContent: name })));
}

function notice(sentence) {
  $("notice").hidden = !sentence;
  if ($("notice").textContent !== sentence) $("notice").textContent = sentence;
}

async function look() {
  let told;
  try {
    const answer = await fetch("v1/console", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`the router answered ${answer.status}`);
    told = await answer.json();
  } catch {
    before = null;
    return notice("The router is unavailable. This page shows its last answer and tries again.");
  }
  show(told);
  return notice(told.chronicle.error || (window.Plotly ? "" : "The charts could not be loaded. Reload this page to see them."));
}

function show(told) {
  const chronicle = told.chronicle;
  showTask(told.task);
  showSummary(told, chronicle);
  showLive(told);
  showTraffic(told);
  const revision = JSON.stringify([chronicle, task, matchMedia("(prefers-color-scheme: dark)").matches]);
  if (revision === shownRevision) return;
  showExperiment(chronicle.experiment);
  showDrift(chronicle.verdicts, chronicle.champions);
  showTrainings(chronicle.trainings, chronicle.unfinished);
  showInsights(chronicle.insights);
  showCost(chronicle.cost);
  showLedger(chronicle.ledger);
  shownRevision = revision;
}

function opinions(versions) {
  const few = task && task.labels.length <= SHOWN_LABELS;
  const cutNote = task && task.phrase === "aspect" ? " (text cut around the aspect)" : " (end of the text left out)";
  const columns = few ? task.labels.map((label) => [label, "number"]) : [["Score", "number"]];
  const scores = (each) => (few ? task.labels.map((_, at) => share(each.scores[at])) : [share(each.scores[each.label])]);
  return table("Answers by version", [["Arm"], ["Version"], [versions.every((each) => each.sentiment) ? "Sentiment" : "Label"], ...columns],
    versions.map((each) => [each.arm, each.version,
      el("strong", { className: each.sentiment ? ["bad", "watch", "good"][each.label] || "" : "", textContent: each.name + (each.truncated ? cutNote : "") }),
      ...scores(each)]));
}

async function ask(event) {
  event.preventDefault();
  const form = new FormData($("try-form"));
  const headers = { "Content-Type": "application/json" };
  if (form.get("key")) headers["X-API-Key"] = form.get("key");
  const question = { text: form.get("text"), ...(task && task.phrase ? { [task.phrase]: form.get("phrase") } : {}) };
  try {
    const answer = await fetch("v1/compare", { method: "POST", headers, body: JSON.stringify(question) });
    const said = await answer.json();
    if (answer.status === 401 || answer.status === 403) $("try-key").hidden = false;
    if (!answer.ok) return put($("try-answer"), el("p", { className: "bad", textContent: said.detail }));
    return put($("try-answer"), opinions(said.versions));
  } catch {
    return put($("try-answer"), el("p", { className: "bad", textContent: "The router is unavailable; try again." }));
  }
}

$("try-form").addEventListener("submit", ask);
async function goOn() {
  try {
    await look();
  } catch (error) {
    console.error(error);
    notice("This page could not be drawn; it tries again.");
  } finally {
    setTimeout(goOn, EVERY_MS);
  }
}
goOn();
