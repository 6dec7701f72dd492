// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// What the page shows, as the address after # holds it.

export const DIVERSITIES = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]; // λ; its scale is the scores'
export const MOST_PICKED = 100;

const DEFAULTS = { topK: 50, diversity: 0, quota: 0 };
const MOST_CATEGORIES = 100;

export function stateOf(hash) {
  const given = new URLSearchParams(hash.slice(1));
  const number = (name, least, most, otherwise) => {
    const value = given.has(name) ? Number(given.get(name)) : NaN;
    return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise;
  };
  const ids = given.getAll("picked").flatMap(idsOf);
  return {
    picked: [...new Set(ids)].slice(-MOST_PICKED),
    topK: Math.round(number("top_k", 10, 100, DEFAULTS.topK) / 10) * 10,
    diversity: nearest(DIVERSITIES, number("diversity", 0, Infinity, DEFAULTS.diversity)),
    quota: Math.round(number("quota", 0, 50, DEFAULTS.quota) / 5) * 5,
    categories: [...new Set(given.getAll("category").filter(Boolean))].slice(0, MOST_CATEGORIES),
    exclude: given.get("exclude_history") !== "false",
    compare: comparisonOf(given.get("compare") ?? ""),
  };
}

/** `exact`, `before`, `popular`, or a search parameter with its value: `ef:32`; else nothing. */
function comparisonOf(text) {
  if (["exact", "before", "popular"].includes(text)) return text;
  return /^\w{1,40}:[1-9]\d{0,8}$/u.test(text) ? text : "";
}

/** Ids with their commas and percent signs written as %2C and %25, joined by commas. */
function idsOf(text) {
  return text
    .split(",")
    .filter(Boolean)
    .map((id) => id.replace(/%2C/g, ",").replace(/%25/g, "%"));
}

function encodedId(id) {
  return encodeURIComponent(id.replace(/%/g, "%25").replace(/,/g, "%2C"));
}

function nearest(values, wanted) {
  const closer = (best, each) => (Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best);
  return values.reduce(closer);
}

export function hashOf({ picked, topK, diversity, quota, categories, exclude, compare }) {
  const parts = [];
  if (picked.length) parts.push(`picked=${picked.map(encodedId).join(",")}`);
  if (topK !== DEFAULTS.topK) parts.push(`top_k=${topK}`);
  if (diversity !== DEFAULTS.diversity) parts.push(`diversity=${diversity}`);
  if (quota !== DEFAULTS.quota) parts.push(`quota=${quota}`);
  for (const name of categories) parts.push(`category=${encodeURIComponent(name)}`);
  if (!exclude) parts.push("exclude_history=false");
  if (compare) parts.push(`compare=${compare}`);
  return parts.length ? `#${parts.join("&")}` : location.pathname;
}
