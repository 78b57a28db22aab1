"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
  };
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = Array.from(body.rows);
      rows.sort((a, b) => {
        const x = key(a, column), y = key(b, column);
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
  if (body.rows.length > 12) {
    const field = document.createElement("input");
    field.type = "search";
    field.className = "filter";
    field.placeholder = "filter rows";
    field.setAttribute("aria-label", "filter the rows of: " + table.caption.textContent);
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    table.parentElement.before(field);
  }
}
// A chart that is wider than its place is scrolled by keyboard too; one that is not, is no stop on the way.
const watch = new ResizeObserver((changed) => {
  for (const { target } of changed) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0; else target.removeAttribute("tabindex");
  }
});
for (const drawing of document.querySelectorAll(".drawing")) watch.observe(drawing);
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
};
addEventListener("hashchange", unfold);
unfold();
// On paper nothing can be unfolded: all of it is printed, also by browsers that do not know the style for it.
const folded = new Set();
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) { folded.add(part); part.open = true; }
});
addEventListener("afterprint", () => { for (const part of folded) part.open = false; folded.clear(); });
const form = document.getElementById("rating-form");
if (form) {
  form.querySelector("button").hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const rating = {
      format: form.dataset.format, run: form.dataset.run, subject: form.dataset.subject,
      soct_version: form.dataset.version, computed: form.dataset.computed, time: new Date().toISOString(),
      rater: given.get("rater").trim(), rating: given.get("rating"), artefacts: given.getAll("artefacts"),
      comment: given.get("comment").trim(),
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(rating, null, 1) + "\n"], { type: "application/json" }));
    link.download = "rating_" + rating.run + "_" + (rating.rater.replace(/[^A-Za-z0-9]+/g, "-") || "rater") + ".json";
    link.click();
    document.getElementById("rating-told").textContent = "Saved as " + link.download + " where your browser keeps downloads.";
  });
}
