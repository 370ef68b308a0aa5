// The playground: one text in, its entities highlighted. Everything is put into the page as text, never as HTML.

import { corrector } from "./teach.js";

const byId = (id) => document.getElementById(id);
const form = byId("form"), text = byId("text"), key = byId("key"), language = byId("language"), explain = byId("explain");
let labels = {}; // by language
let taughtSeq = null; // of what was taught last: answers must have seen it

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

async function ask(path, body, method = body ? "POST" : "GET") {
  const headers = key.value ? { Authorization: `Bearer ${key.value}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.message}\n${answer.what_to_do}`);
  return answer;
}

function tell(error) {
  byId("error").hidden = !error;
  byId("error").textContent = error ? error.message : "";
}

function hue(label) {
  let sum = 0;
  for (const character of label) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return sum;
}

function marked(entity) {
  const score = element("small", "", `${entity.label} ${entity.score.toFixed(2)}`);
  score.dir = "auto"; // so it does not count for the direction of the mark, nor moves among the words beside it
  const mark = element("mark", "", entity.text, score);
  mark.dir = "auto";
  mark.style.setProperty("--hue", hue(entity.label));
  return mark;
}

// Offsets are UTF-16 code units, as JavaScript counts.
function highlighted(whole, start, end, entities) {
  const line = element("p");
  line.dir = "auto";
  let at = start;
  for (const entity of entities) {
    line.append(whole.slice(at, entity.start_char), marked(entity));
    at = entity.end_char;
  }
  line.append(whole.slice(at, end));
  return line;
}

function exampleItems(examples) {
  const origin = (example) => (example.taught ? " · taught" : "");
  const mentions = examples.entity.map((e) => `${e.mention}: ${e.label} (${e.similarity.toFixed(2)})${origin(e)}`);
  const sentences = examples.context.map((c) => {
    const inside = c.entities.map((e) => `${e.text}: ${e.label}`).join(", ");
    return `${c.text} (${c.similarity.toFixed(2)})${inside ? " · " + inside : ""}${origin(c)}`;
  });
  return [...mentions, ...sentences].map((line) => {
    const item = element("li", "", line);
    item.dir = "auto";
    return item;
  });
}

function sentenceCard(whole, sentence, entities) {
  const ranking = sentence.ranking.map(([code, score]) => `${code} ${score.toFixed(2)}`).join(", ");
  const about = `${sentence.language} · adapter ${sentence.adapter} · ${sentence.composition} · margin ${sentence.margin.toFixed(2)}`;
  const card = element("article", "sentence",
    highlighted(whole, sentence.start_char, sentence.end_char, entities), element("div", "about", about));
  const details = element("details", "", element("summary", "", "why"), element("div", "", `languages: ${ranking}`));
  if (sentence.examples) details.append(element("ul", "", ...exampleItems(sentence.examples)));
  const moved = entities.map((e) => ({ ...e, start_char: e.start_char - sentence.start_char, end_char: e.end_char - sentence.start_char }));
  card.append(details, correction(whole.slice(sentence.start_char, sentence.end_char), sentence.language, moved));
  return card;
}

const correction = corrector(element, (code) => labels[code] ?? [], (example) => change(async () => {
  const { taught_seq, examples } = await ask("v1/examples", { examples: [example], offsets: "utf16" });
  tellTaught("Taught.", examples[0].id);
  return taught_seq;
}));

// Teaches or forgets something, then tags the text again.
async function change(act) {
  try {
    taughtSeq = await act();
  } catch (error) {
    tell(error);
    return;
  }
  await tag();
}

function tellTaught(words, id) {
  const place = byId("taught"), hadFocus = place.contains(document.activeElement);
  place.hidden = false;
  place.replaceChildren(`${words} `);
  if (hadFocus) place.focus();
  if (!id) return;
  const undo = element("button", "", "Undo");
  undo.type = "button";
  undo.addEventListener("click", () => change(async () => {
    const { taught_seq } = await ask(`v1/examples/${id}`, null, "DELETE");
    tellTaught("Forgotten.", null);
    return taught_seq;
  }));
  place.append(undo);
}

function show(whole, answer) {
  const { entities, sentences } = answer.results[0], place = byId("answer");
  const focused = [...place.children].findIndex((card) => card.contains(document.activeElement));
  place.replaceChildren(...sentences.map((sentence) => sentenceCard(whole, sentence,
    entities.filter((e) => e.start_char >= sentence.start_char && e.end_char <= sentence.end_char))));
  place.children[focused]?.querySelector(".teach > summary").focus(); // or the keyboard starts from the top again
  byId("release").textContent = `Release ${answer.release}`;
}

function curl(body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const auth = key.value ? " -H 'Authorization: Bearer ra_…'" : "";
  return `curl -s ${new URL("v1/tag", location.href.split("#")[0])}${auth} -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
}

async function tag() {
  const whole = text.value;
  const item = language.value ? { text: whole, language: language.value } : whole;
  const body = { texts: [item], offsets: "utf16", explain: explain.checked };
  if (taughtSeq) body.taught_seq = taughtSeq;
  const hadFocus = document.activeElement === byId("send");
  byId("send").disabled = true;
  try {
    show(whole, await ask("v1/tag", body));
    tell(null);
  } catch (error) {
    tell(error);
  } finally {
    byId("send").disabled = false;
    if (hadFocus) byId("send").focus();
  }
  byId("curl").textContent = curl(body);
  byId("copied").textContent = "";
  byId("request").hidden = false;
}

async function copied(words) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch { // undefined on plain HTTP away from localhost, and may be forbidden
    const area = element("textarea", "aside");
    area.value = words;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

async function copy() {
  const done = await copied(byId("curl").textContent);
  byId("copy").focus();
  byId("copied").textContent = done ? "Copied." : "The browser forbids it: select the text and copy it.";
}

async function listLanguages() {
  try {
    const { release, languages } = await ask("v1/languages");
    byId("release").textContent = `Release ${release}`;
    labels = Object.fromEntries(languages.map((row) => [row.language, row.labels]));
    language.replaceChildren(language.options[0], ...languages.map((row) => new Option(`${row.language} (${row.labels.join(", ")})`, row.language)));
    tell(null);
  } catch (error) {
    tell(error);
  }
}

form.addEventListener("submit", (event) => { event.preventDefault(); tag(); });
document.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); tag(); } });
byId("copy").addEventListener("click", copy);
key.addEventListener("change", () => { sessionStorage.setItem("key", key.value); taughtSeq = null; listLanguages(); });

key.value = sessionStorage.getItem("key") ?? "";
const linked = new URLSearchParams(location.hash.slice(1)).get("text"); // `#text=…` is tagged at once
if (linked) text.value = linked;
listLanguages().then(() => { if (linked) tag(); });
