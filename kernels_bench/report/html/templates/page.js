"use strict";
const all = (query, within = document) => [...within.querySelectorAll(query)];
const byId = id => document.getElementById(id);
const pressed = button => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", on);
const say = text => { byId("said").textContent = text; };

// --- commands to copy

const copied = async text => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Where the clipboard is closed to a page from a file, a selection may still be copied.
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
};
for (const button of all(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const done = await copied(button.previousElementSibling.textContent);
    button.focus();
    button.textContent = done ? "Copied" : "Not copied";
    say(done ? "The command is copied." : "The command could not be copied.");
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}

// --- filters

const tools = byId("tools");
if (tools) {
  tools.hidden = false;
  const find = byId("find"), changed = byId("changed"), cases = all(".case");
  const operators = new Map(all("[data-operator]", tools).map(button => [button.dataset.operator, button]));
  const shown = operator => !operators.has(operator) || pressed(operators.get(operator));

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const section of all("section.operator")) section.hidden = !shown(section.dataset.operator);
    for (const row of all("[data-of]")) row.hidden = !shown(row.dataset.of);
    for (const one of cases) {
      const text = one.dataset.find.toLowerCase().replaceAll("×", "x");
      const fits = words.every(word => text.includes(word.replaceAll("×", "x")));
      one.hidden = !fits || (pressed(changed) && !("changed" in one.dataset));
      if (!one.hidden && !one.closest("section").hidden) count += 1;
    }
    byId("count").textContent = count === cases.length ? `${count} cases` : `${count} of ${cases.length} cases`;
  };

  for (const button of all("[aria-pressed]", tools)) {
    button.addEventListener("click", () => {
      press(button, !pressed(button));
      if (button.dataset.arm) for (const one of all(`.a${button.dataset.arm}`)) one.toggleAttribute("hidden", !pressed(button));
      else filter();
    });
  }
  find.addEventListener("input", filter);
  byId("open").addEventListener("click", () => {
    for (const one of cases) if (!one.hidden && !one.closest("section").hidden) one.open = true;
  });
  byId("shut").addEventListener("click", () => { for (const one of cases) one.open = false; });
  document.addEventListener("keydown", event => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target === find) return;
    event.preventDefault();
    find.focus();
  });
  filter();
}

// --- a link to a case opens it

const follow = () => {
  const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
  if (target && target.matches("details")) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", follow);
follow();

// --- paper shows everything

addEventListener("beforeprint", () => { for (const one of all("details")) one.open = true; });
