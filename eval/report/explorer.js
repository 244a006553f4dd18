"use strict";
// The explorer of a report. Texts of models and users enter the page as text nodes only; a page of rows is drawn.
(() => {
  const PAGE = 20, KEPT = 12;
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const home = document.getElementById("explorer");
  const unpacked = new Map();                                   // block number -> its details, the last few
  const CONTROL = new RegExp("[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u061c\\u200b\\u200e\\u200f"
    + "\\u2028-\\u202e\\u2060-\\u206f\\ufeff]");

  // ---------------------------------------------------------------------------------------------------------- elements

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
    return node;
  }

  // A text in its own direction, its invisible characters spelled out: they could change what a reader sees.
  function said(text, most) {
    const parts = [], whole = most && text.length > most ? text.slice(0, most) + "…" : text;
    let from = 0;
    for (let at = 0; at < whole.length; at++) {
      if (!CONTROL.test(whole[at])) continue;
      const code = "U+" + whole.charCodeAt(at).toString(16).toUpperCase().padStart(4, "0");
      parts.push(whole.slice(from, at), el("span", { class: "control" }, code));
      from = at + 1;
    }
    return el("bdi", {}, parts, whole.slice(from));
  }

  const start = (text) => (typeof text === "string" ? text : text[0]);

  function block(text, file) {
    const pre = el("pre", { tabindex: "0" }, said(start(text)));
    if (typeof text === "string") return pre;
    const left = (text[1] - text[0].length).toLocaleString("en");
    return [pre, el("p", { class: "cut" }, `Cut here: ${left} more characters${file ? ` in ${file}` : ""}.`)];
  }

  const words = (code) => code.replaceAll("_", " ");
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3).replace("-", "\u2212"));
  const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  async function detailAt(at, place) {
    if (!unpacked.has(at)) {
      if (unpacked.size >= KEPT) unpacked.delete(unpacked.keys().next().value);
      unpacked.set(at, unpack(data.blocks[at]));
    }
    return (await unpacked.get(at))[place];
  }

  // ----------------------------------------------------------------------------------------------- what is looked into

  const roundOf = (row) => `round ${row[0]}`;
  const before = () => Number(state.before), after = () => Number(state.after);

  const kinds = (row) => (state.view === "benchmarks" && state.reading === "lenient" ? row[5] : row[4]);

  function change(row) {
    const both = [kinds(row)[before()], kinds(row)[after()]], [was, is] = both.map((kind) => kind === "right");
    if (both.includes("not_asked")) return "not asked both times";
    return was === is ? (is ? "right both times" : "wrong both times") : is ? "newly right" : "newly wrong";
  }

  const changes = [
    ["change", change], ["before", null], ["after", null],
    ["error before", (row) => words(kinds(row)[before()])], ["error after", (row) => words(kinds(row)[after()])],
  ];
  const changed = (row) => [
    el("span", { class: kinds(row)[after()] === "right" ? "chip good" : "chip" }, change(row)),
    el("span", { class: "text" }, said(row[1])),
    el("span", { class: "side" }, `${words(kinds(row)[before()])} → ${words(kinds(row)[after()])} · `, said(row[0], 60)),
  ];

  const VIEWS = {
    queries: {
      title: "Queries of the rounds", noun: ["query", "queries"], rows: [],
      filters: [
        ["round", roundOf], ["stage", (row) => (row[3] ? `rejected: ${row[3]}` : "accepted")],
        ["reason", (row) => words(row[4]) || null], ["votes", (row) => (row[5] < 0 ? "none cast" : String(row[5]))],
        ["source", (row) => row[6] || null],
      ],
      texts: (row) => `${row[1]}\n${row[2]}\n${row[4]}`,
      cells: (row) => [
        el("span", { class: row[3] ? "chip" : "chip good" }, row[3] ? `${row[3]}: ${words(row[4])}` : "accepted"),
        el("span", { class: "text" }, said(row[2])),
        el("span", { class: "side" }, row[5] < 0 ? "" : `${count(row[5], "vote")} · `, `${roundOf(row)} · `,
          said(row[1], 60)),
      ],
      detail: queryDetail,
    },
    tests: {
      title: "Test items", noun: ["item", "items"], rows: [],
      filters: [...changes, ["part", (row) => row[2]], ["category", (row) => words(row[3])]],
      texts: (row) => `${row[0]}\n${row[1]}`, cells: changed, detail: testDetail,
    },
    benchmarks: {
      title: "Benchmark entries", noun: ["entry", "entries"], rows: [],
      filters: [["benchmark", (row) => row[2]], ...changes, ["reading", null], ["category", (row) => words(row[3])]],
      texts: (row) => `${row[0]}\n${row[1]}`, cells: changed, detail: benchDetail,
    },
  };

  function prompt(kind, query, tools) {
    const texts = { "\ue000": start(query), "\ue001": (tools || []).map(start).join("\n") };
    const messages = data.prompts[kind].map(([role, text]) => [
      el("p", { class: "role" }, role),
      el("pre", { tabindex: "0" }, said(text.split(/([\ue000\ue001])/).map((part) => texts[part] ?? part).join(""))),
    ]);
    return el("details", {}, el("summary", {}, "The prompt, before the chat format wraps it"), messages);
  }

  function tableOf(heads, rows, caption) {
    const line = (row) => el("tr", {}, row.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, cell)));
    const top = el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)));
    return el("div", { class: "wide", role: "region", tabindex: "0", "aria-label": caption },
      el("table", {}, el("caption", {}, caption), el("thead", {}, top), el("tbody", {}, rows.map(line))));
  }

  function queryDetail(row, detail) {
    const [round, , , stage, reason] = row, file = (name) => `round-${round}/${name}.jsonl`, { end, calls } = detail;
    const parts = [el("h3", {}, "Query"), block(detail.query, file("tools"))];
    if (detail.tries.length) {
      parts.push(el("h3", {}, "Candidate tools, made by the model (Eq. 4)"), prompt("generation", detail.query));
      detail.tries.forEach((one, i) => parts.push(
        el("p", {}, `Try ${i + 1}: ${count(one.tokens, "token")}, log-probability a token ${number(one.logprob)}. `,
          "Rule checker: ",
          one.reason ? [el("strong", {}, words(one.reason)), ", ", said(start(one.detail))] : "passed", "."),
        block(one.text, file("tools"))));
    }
    if (calls) parts.push(callsPart(detail.query, calls, file("calls")));
    parts.push(el("h3", {}, stage ? `Rejected at the stage ${stage}` : "Accepted"));
    if (stage) parts.push(el("p", {}, el("strong", {}, words(reason)), ": ", said(start(end.detail))));
    else parts.push(el("p", {}, "The calls passed the rule checker."), block(end.calls, file("accepted")),
      ...lossPart(detail.losses), el("h3", {}, "Provenance"), block(JSON.stringify(end.provenance, null, 1)));
    if (detail.asked) parts.push(el("h3", {}, "What the query asks for, as its maker knows"), block(detail.asked));
    return parts;
  }

  function offered(tools, file) {
    const summary = el("summary", {}, count(tools.length, "tool") + " offered");
    return el("details", {}, summary, tools.map((one) => block(one, file)));
  }

  function callsPart(query, calls, file) {
    const { vote } = calls, numbers = (list) => list.map((i) => i + 1).join(", ");
    const rows = calls.answers.map((one) => [
      one.reason ? "none" : String(one.samples.length), numbers(one.samples), one.logprobs.map(number).join(", "),
      [one.samples.includes(vote.index) && !one.reason ? el("strong", {}, "winner ") : null,
        one.reason ? `does not vote, ${words(one.reason)}: ` : null, block(one.text, file)],
    ]);
    const early = vote.decided_early ? ", decided early" : `, margin ${vote.margin}`;
    const tie = vote.tie && vote.tie !== "none" ? `, a tie broken by ${vote.tie}` : "";
    return [
      el("h3", {}, `Calls, ${count(vote.num_samples, "sample")} and their vote (Eq. 5)`),
      prompt("invocation", query, calls.tools), offered(calls.tools, file),
      tableOf(["votes", "samples", "log-probability a token", "answer"], rows, "The answers, most votes first"),
      el("p", {}, vote.votes ? `Sample ${vote.index + 1} wins with ${vote.votes} of ${vote.num_samples}${early}${tie}.`
        : "No answer could be read, so none wins."),
    ];
  }

  function lossPart(losses) {
    const rows = Object.entries(losses).map(([name, [was, is, n]]) => [name, number(was), number(is), String(n)]);
    const none = "Not measured for this one. `tooldev.py trace RUN --losses N` measures them for N examples a round.";
    const heads = ["row", "before the round", "after it", "supervised tokens"];
    return [el("h3", {}, "Its training rows (Eq. 6)"),
      rows.length ? tableOf(heads, rows, "Loss a supervised token, in nats") : el("p", {}, none)];
  }

  function testDetail(row, detail) {
    const rows = detail.answers.map(([text, logprob], i) => [
      data.steps[i], words(row[4][i]), number(logprob), block(text, "eval/answers.jsonl")]);
    return [
      el("h3", {}, "Query"), block(detail.query, "data/test.jsonl"),
      prompt("invocation", detail.query, detail.tools), offered(detail.tools, "data/test.jsonl"),
      el("h3", {}, "The right calls"), block(detail.expected, "data/test.jsonl"),
      tableOf(["after", "is", "log-probability a token", "answer"], rows, "The answer after each step"),
    ];
  }

  function benchDetail(row, detail) {
    const kept = (text) => (text === null ? "–" : block(text, "answers.jsonl of the step"));
    const rows = detail.answers.map((text, i) => [data.asked[i], words(row[4][i]), words(row[5][i]), kept(text)]);
    const last = detail.asked.findLastIndex(([role]) => role === "user");
    const messages = detail.asked.map(([role, text]) => [el("p", { class: "role" }, role), block(text)]);
    return [
      ...(last < 0 ? [] : [el("h3", {}, "Question"), block(detail.asked[last][1]),
        el("details", {}, el("summary", {}, "The prompt with the tools, before the chat format wraps it"), messages),
        el("h3", {}, "The right answer"), detail.expected === "" ? el("p", {}, "No call.") : block(detail.expected)]),
      tableOf(["after", "strict", "lenient", "answer"], rows, "The answer after each step, as each reading judges it"),
    ];
  }

  // --------------------------------------------------------------------------------------------------- list and filter

  const state = { view: "queries", page: 0, found: [], chosen: {}, before: "0", after: "0", reading: "strict" };
  const search = el("input", { type: "search", placeholder: "words of a query, an id", oninput: later });
  const status = el("p", { role: "status", class: "count" }), list = el("ol", { class: "entries" });
  const tabs = el("div", { class: "tabs", role: "group", "aria-label": "What to look into" });
  const fields = el("div", { class: "fields" }), pager = el("div", { class: "pager" });
  let timer = 0;

  function later() {
    clearTimeout(timer);
    timer = setTimeout(() => { state.page = 0; refresh(); }, 120);
  }

  function refresh() {
    const view = VIEWS[state.view], wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = view.filters.filter(([, of]) => of);
    const counts = active.map(() => new Map());
    state.found = view.rows.filter((row) => {
      if (!wanted.every((word) => row.searched.includes(word))) return false;
      const values = active.map(([, of]) => of(row));
      const missed = active.map(([name], i) => (state.chosen[name] ?? "") !== "" && state.chosen[name] !== values[i]);
      const misses = missed.filter(Boolean).length;
      values.forEach((value, i) => {                            // an option counts what the other filters leave
        if (value !== null && misses - missed[i] === 0) counts[i].set(value, (counts[i].get(value) || 0) + 1);
      });
      return misses === 0;
    });
    active.forEach(([name], i) => fill(name, counts[i]));
    draw();
  }

  function fill(name, counts) {
    const select = document.getElementById(`explore-${name.replace(" ", "-")}`), chosen = state.chosen[name] ?? "";
    const values = [...counts.keys()];
    if (chosen && !counts.has(chosen)) values.push(chosen);
    values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const option = (value) => el("option", { value }, `${value} (${(counts.get(value) || 0).toLocaleString("en")})`);
    select.replaceChildren(el("option", { value: "" }, "all"), ...values.map(option));
    select.value = chosen;
    select.parentElement.hidden = values.length < 2 && !chosen;
  }

  function draw() {
    const view = VIEWS[state.view], from = state.page * PAGE, shown = state.found.slice(from, from + PAGE);
    list.replaceChildren(...shown.map((row) => entry(view, row)));
    list.start = from + 1;
    const total = view.rows.length, noun = view.noun[total === 1 ? 0 : 1];
    const [all, first, end] = [total, from + 1, from + shown.length].map((n) => n.toLocaleString("en"));
    status.textContent = `${state.found.length.toLocaleString("en")} of ${all} ${noun}`
      + (shown.length ? `, ${first} to ${end} shown` : "");
    const last = Math.max(0, Math.ceil(state.found.length / PAGE) - 1);
    const go = (page) => () => { state.page = page; draw(); list.querySelector("button")?.focus(); };
    const button = (text, page, on) => el("button", { type: "button", disabled: !on, onclick: go(page) }, text);
    pager.hidden = last === 0;
    pager.replaceChildren(
      button("First", 0, state.page > 0), button("Previous", state.page - 1, state.page > 0),
      el("span", {}, `page ${(state.page + 1).toLocaleString("en")} of ${(last + 1).toLocaleString("en")}`),
      button("Next", state.page + 1, state.page < last), button("Last", last, state.page < last));
  }

  function entry(view, row) {
    const body = el("div", { class: "detail", hidden: true });
    const head = el("button", { type: "button", class: "entry", "aria-expanded": "false" }, view.cells(row));
    head.addEventListener("click", () => toggle(view, row, head, body));
    return el("li", {}, head, body);
  }

  async function toggle(view, row, head, body) {
    const open = body.hidden;
    head.setAttribute("aria-expanded", String(open));
    body.hidden = !open;
    if (!open || body.firstChild) return;
    const [at, place] = row.slice(-2);
    const where = { queries: ["`tooldev.py trace RUN --id ", said(String(row[1])), "`"],
      tests: "data/test.jsonl and eval/ of the steps", benchmarks: "bench/ of the steps" }[state.view];
    const none = [el("p", {}, "This page has no room for the details of this one. See ", where, ".")];
    try {
      body.replaceChildren(...(at < 0 ? none : view.detail(row, await detailAt(at, place))).flat(9));
    } catch (error) {
      body.replaceChildren(el("p", {}, `The details cannot be read: ${error.message}. Make the report again.`));
    }
  }

  // Arrow keys move between entries, Escape closes the one that holds the focus.
  function keys(event) {
    const heads = [...list.querySelectorAll("button.entry")], item = event.target.closest("li");
    const head = item?.querySelector("button.entry"), at = heads.indexOf(head);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: heads.length - 1 }[event.key];
    if (event.key === "Escape" && head?.getAttribute("aria-expanded") === "true") {
      head.click();
      head.focus();
    } else if (event.target === head && to !== undefined) {
      event.preventDefault();
      heads[Math.min(Math.max(to, 0), heads.length - 1)].focus();
    }
  }

  function field(name) {
    const id = `explore-${name.replace(" ", "-")}`, step = name === "before" || name === "after";
    const own = step || name === "reading";                     // chooses what is shown, not which rows
    const select = el("select", { id, onchange: () => {
      if (own) state[name] = select.value;
      else state.chosen[name] = select.value;
      state.page = 0;
      refresh();
    } });
    if (own) {
      const steps = (state.view === "tests" ? data.steps : data.asked).map((title, i) => [String(i), title]);
      const options = step ? steps : [["strict", "strict"], ["lenient", "lenient"]];
      select.append(...options.map(([value, title]) => el("option", { value }, title)));
      select.value = state[name];
    }
    return el("label", { class: "field" }, el("span", {}, name), select);
  }

  function show(name) {
    const steps = { tests: data.steps, benchmarks: data.asked }[name] || [];
    Object.assign(state, { view: name, page: 0, chosen: {}, before: "0", after: String(steps.length - 1) });
    fields.replaceChildren(el("label", { class: "field wanted" }, el("span", {}, "search"), search),
      ...VIEWS[name].filters.map(([filter]) => field(filter)));
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.view === name));
    refresh();
  }

  async function begin() {
    if (typeof DecompressionStream === "undefined") throw new Error("it needs a browser of 2023 or later");
    const index = await unpack(data.index);
    const names = Object.keys(VIEWS).filter((name) => index[name].length);
    for (const name of names) {
      VIEWS[name].rows = index[name];
      for (const row of index[name]) row.searched = VIEWS[name].texts(row).toLowerCase();
      const title = `${VIEWS[name].title} (${index[name].length.toLocaleString("en")})`;
      tabs.append(el("button", { type: "button", "data-view": name, onclick: () => show(name) }, title));
    }
    list.addEventListener("keydown", keys);
    home.append(tabs, fields, status, list, pager);
    show(names[0]);
  }

  begin().catch((error) => home.append(el("p", {}, `The explorer cannot start: ${error.message}.`)));
})();
