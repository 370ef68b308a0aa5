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

// The first place of a mention that overlaps no entity; -1 where there is none.
function placeOf(mention, text, spans) {
  let at = text.indexOf(mention);
  while (at >= 0 && spans.some((s) => at < s.end_char && s.start_char < at + mention.length)) at = text.indexOf(mention, at + 1);
  return mention ? at : -1;
}

// Returns what makes the form of one sentence; `teach` is given the example.
export function corrector(element, labelsOf, teach) {
  return (text, language, entities) => {
    const spans = entities.map(({ start_char, end_char, label }) => ({ start_char, end_char, label }));
    const labels = labelsOf(language);
    const list = element("ul", "spans"), mention = element("input"), label = choice(element, labels, labels[0]);
    mention.placeholder = "another mention, as it stands in the sentence";
    mention.setAttribute("aria-label", "Mention");
    mention.dir = "auto";

    function row(span) {
      const chosen = choice(element, labels, span.label);
      chosen.addEventListener("change", () => { span.label = chosen.value; });
      const remove = button(element, "Remove", () => { spans.splice(spans.indexOf(span), 1); draw(); });
      return element("li", "", element("bdi", "", text.slice(span.start_char, span.end_char)), chosen, remove);
    }

    function draw() {
      spans.sort((a, b) => a.start_char - b.start_char);
      list.replaceChildren(...spans.map(row));
    }

    function add() {
      const words = mention.value.trim(), at = placeOf(words, text, spans);
      mention.setCustomValidity(at < 0 ? "This does not stand in the sentence, or overlaps another entity." : "");
      if (!mention.reportValidity()) return;
      spans.push({ start_char: at, end_char: at + words.length, label: label.value });
      mention.value = "";
      draw();
      mention.focus();
    }

    mention.addEventListener("input", () => mention.setCustomValidity(""));
    mention.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) { event.preventDefault(); add(); } });
    draw();
    return element("details", "teach", element("summary", "", "correct"), list,
      element("div", "row", mention, label, button(element, "Add", add)),
      button(element, "Teach", () => teach({ text, language, entities: spans })));
  };
}
