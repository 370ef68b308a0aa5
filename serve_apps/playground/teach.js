// Teaching a correction: a sentence's entities as a list to change. Offsets are UTF-16 code units, as JavaScript counts.

function choice(element, labels, chosen) {
  const made = element("select", "", ...labels.map((label) => new Option(label, label, false, label === chosen)));
  made.setAttribute("aria-label", "Label");
  return made;
}

function button(element, words, act) {
  const made = element("button", "", words);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

const WORD = "[\\p{L}\\p{M}\\p{N}]", UNSPACED = "[\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Thai}\\p{sc=Laoo}\\p{sc=Khmr}\\p{sc=Mymr}]";
const INSIDE = new RegExp(`(?!${UNSPACED})${WORD}$`, "u"), ONWARD = new RegExp(`^(?!${UNSPACED})${WORD}`, "u");

// Whether a word goes on across this place.
function isInside(text, at) {
  return INSIDE.test(text.slice(0, at)) && ONWARD.test(text.slice(at));
}

// The places of a mention that overlap no entity; those that begin or end inside a word only where there are no others.
export function placesOf(mention, text, spans) {
  const places = [];
  for (let at = mention ? text.indexOf(mention) : -1; at >= 0; at = text.indexOf(mention, at + 1)) {
    if (!spans.some((s) => at < s.end_char && s.start_char < at + mention.length)) places.push(at);
  }
  const whole = places.filter((at) => !isInside(text, at) && !isInside(text, at + mention.length));
  return whole.length ? whole : places;
}

// Returns what makes the form of one sentence; `teach` is given the example.
export function corrector(element, labelsOf, teach) {
  return (text, language, entities) => {
    const spans = entities.map(({ start_char, end_char, label }) => ({ start_char, end_char, label }));
    const labels = labelsOf(language);
    const list = element("ul", "spans"), mention = element("input"), label = choice(element, labels, labels[0]);
    const where = element("output"), next = button(element, "Next place", () => { place += 1; point(); });
    let place = 0; // which of the mention's places is meant
    where.dir = "auto";
    mention.placeholder = "another mention, as it stands in the sentence";
    mention.setAttribute("aria-label", "Mention");
    mention.dir = "auto";

    function row(span) {
      const chosen = choice(element, labels, span.label);
      chosen.addEventListener("change", () => { span.label = chosen.value; });
      const remove = button(element, "Remove", () => { spans.splice(spans.indexOf(span), 1); draw(); mention.focus(); });
      return element("li", "", element("bdi", "", text.slice(span.start_char, span.end_char)), chosen, remove);
    }

    function draw() {
      spans.sort((a, b) => a.start_char - b.start_char);
      list.replaceChildren(...spans.map(row));
      place = 0;
      point();
    }

    // Shows which place is meant where there are several.
    function point() {
      const words = mention.value.trim(), places = placesOf(words, text, spans), number = place % places.length;
      next.hidden = places.length < 2;
      if (next.hidden) return where.replaceChildren();
      const at = places[number], end = at + words.length;
      where.replaceChildren(text.slice(Math.max(0, at - 20), at), element("b", "", words), text.slice(end, end + 20), ` (${number + 1} of ${places.length})`);
    }

    function add() {
      const words = mention.value.trim(), places = placesOf(words, text, spans), at = places[place % places.length] ?? -1;
      mention.setCustomValidity(at < 0 ? "This does not stand in the sentence, or overlaps another entity." : "");
      if (!mention.reportValidity()) return;
      spans.push({ start_char: at, end_char: at + words.length, label: label.value });
      mention.value = "";
      draw();
      mention.focus();
    }

    mention.addEventListener("input", () => { mention.setCustomValidity(""); place = 0; point(); });
    mention.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) { event.preventDefault(); add(); } });
    draw();
    return element("details", "teach", element("summary", "", "correct"), list,
      element("div", "row", mention, label, button(element, "Add", add)), element("div", "", where, " ", next),
      button(element, "Teach", () => teach({ text, language, entities: spans })));
  };
}
