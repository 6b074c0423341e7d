"use strict";
// Titles and what a language model wrote are untrusted: everything is put in as text, never as HTML.

const by = (id) => document.getElementById(id);
const TOP = 10, WAIT = 1500, TRIES = 80; // milliseconds between two questions about a text that is being written, and how many
let history = [], user = null, token = null, turn = 0, typed = 0;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function titled(item) {
  const made = element("bdi", item.title || item.item);
  made.title = item.item;
  return made;
}

async function ask(path, question) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const options = question === undefined ? { headers }
    : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(question) };
  const response = await fetch(path, options);
  const body = await response.json();
  by("token-form").hidden = response.status !== 401;
  if (!response.ok) throw new Error(body.error ? body.error.message : response.statusText);
  return body;
}

function say(text, wrong) {
  by("status").textContent = text;
  by("status").className = wrong ? "error" : "quiet";
}

async function find() {
  const mine = ++typed, query = by("query").value.trim();
  if (!query) { by("found").replaceChildren(); return; }
  try {
    const found = await ask(`items?query=${encodeURIComponent(query)}`);
    if (mine !== typed) return; // a later word was asked for
    by("found").replaceChildren(...found.items.map((item) => {
      const line = element("li"), button = element("button");
      button.type = "button";
      button.append(titled(item));
      if (item.details) button.append(element("span", item.details, "details"));
      button.addEventListener("click", () => { user = null; by("user").value = ""; history.push(item); show(); });
      line.append(button);
      return line;
    }), ...(found.items.length ? [] : [element("li", "no item has these words", "quiet")]));
  } catch (error) { say(error.message, true); }
}

function drawHistory(steps) {
  by("history").replaceChildren(...steps.map((item, place) => {
    const line = element("li");
    line.append(titled(item));
    if (user === null) {
      const gone = element("button", "×");
      gone.type = "button";
      gone.setAttribute("aria-label", `leave out ${item.title}`);
      gone.addEventListener("click", () => { history.splice(place, 1); show(); });
      line.append(gone);
    }
    return line;
  }));
}

function ranking(items, before) {
  const places = new Map((before || []).map((item, place) => [item.item, place]));
  return items.map((item, place) => {
    const line = element("li");
    line.append(element("span", place + 1, "place"), titled(item));
    if (before) {
      const was = places.get(item.item), moved = was === undefined ? null : was - place;
      const text = moved === null ? "new" : moved > 0 ? `▲ ${moved}` : moved < 0 ? `▼ ${-moved}` : "";
      line.append(element("span", text, moved === null || moved > 0 ? "up" : "down"));
    }
    return line;
  });
}

function drawReasoning(found) {
  const thought = found.thought, told = {
    used: "The language model wrote this about the history:",
    malformed: "What was written cannot be read, so the ranking is the trunk's, as if nothing had been written.",
    queued: "It is being written; the ranking is the trunk's until then.",
    "not queued": "Too many histories wait for a text; the ranking is the trunk's.",
    off: "This run uses none: the ranking is the trunk's.",
  };
  by("why").textContent = told[found.reasoning] || found.reasoning;
  by("cot").textContent = thought ? (thought.well_formed ? thought.cot : thought.text) : "";
  const facts = !thought || !thought.well_formed ? [] : [
    ["Answer", thought.guess ? thought.guess.title : `${thought.answer} (no item of the catalogue)`],
    ["Counts", thought.gate === null ? "nothing" : `${(100 * thought.gate).toFixed(0)} % (gate)`],
    ["Moved", `${(100 * thought.moved).toFixed(1)} % of the user's vector`],
  ];
  by("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  by("before").hidden = !found.with_reasoning;
  by("without").replaceChildren(...(found.with_reasoning ? ranking(found.without_reasoning) : []));
}

async function show() {
  const mine = ++turn;
  if (user === null) drawHistory(history);
  if (user === null && !history.length) {
    say("Choose an item to begin.");
    by("next").replaceChildren();
    drawReasoning({ reasoning: "None yet.", thought: null, with_reasoning: null });
    return;
  }
  const question = { top_k: TOP, hide_seen: by("hide").checked };
  if (user === null) question.history = history.map((item) => item.item); else question.user = user;
  for (let tries = 0; tries < TRIES; tries += 1) {
    try {
      const found = await ask("explain", question);
      if (mine !== turn) return; // something else was asked for meanwhile
      if (user !== null) drawHistory(found.history);
      const best = found.with_reasoning || found.without_reasoning;
      by("next").replaceChildren(...ranking(best, found.with_reasoning ? found.without_reasoning : null));
      by("model").textContent = `Answers come from ${found.model_version}`;
      say(found.with_reasoning ? "With the reasoning; arrows say what it moved." : "The trunk's ranking.");
      drawReasoning(found);
      if (found.reasoning !== "queued") return;
    } catch (error) {
      if (mine === turn) say(error.message, true);
      return;
    }
    await new Promise((later) => setTimeout(later, WAIT));
    if (mine !== turn) return;
  }
}

async function begin() { // `/?history=50,181` and `/?user=196` can be kept as links
  const given = new URLSearchParams(location.search);
  user = given.get("user");
  if (user !== null) by("user").value = user;
  history = (given.get("history") || "").split(",").filter(Boolean).map((item) => ({ item, title: item }));
  try {
    for (const item of history) {
      const found = (await ask(`items?query=${encodeURIComponent(item.item)}`)).items.find((one) => one.item === item.item);
      if (found) item.title = found.title;
    }
  } catch (error) { say(error.message, true); return; }
  show();
}

by("query").addEventListener("input", find);
by("hide").addEventListener("change", show);
by("clear").addEventListener("click", () => { history = []; user = null; by("user").value = ""; show(); });
by("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  user = by("user").value.trim() || null;
  show();
});
by("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = by("token").value;
  find();
  show();
});
begin();
