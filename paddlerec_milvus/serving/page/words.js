// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// What the page says: where candidates come from, what went wrong, an example to start with.

export function headline({ source, items }) {
  if (!items.length) return "No candidates";
  return source === "model" ? "Candidates" : "Popular items";
}

/** Where a list comes from. */
export function sourceText({ source, items, unknown, nearest }, picks) {
  const left = unknown ? ` ${counted(unknown, "pick")} unknown to the model.` : "";
  if (source === "model") return `${found(items, nearest)}, out of ${counted(picks, "pick")}.${left}`;
  if (source === "fallback") {
    return "The model could not be asked just now, so these are what most people take.";
  }
  if (source === "short") {
    return `Too few picks for the model yet, so these are what most people take.${left}`;
  }
  if (picks) return `No pick is known to the model, so these are what most people take.${left}`;
  return "What most people take. Click one to start with it.";
}

function found(items, nearest) {
  const interests = new Set(items.map((item) => item.interest)).size;
  const of = nearest.length > interests ? `${interests} of ${nearest.length}` : `${interests}`;
  return `${items.length} found by ${of} ${interests === 1 && of === "1" ? "interest" : "interests"}`;
}

const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** Whose model answers, or why none does; loud where the service was started with another one. */
export function modelText(told) {
  const whose = ({ model, epoch, data, index, digest }) => [
    model, epoch === null ? "" : `epoch ${epoch}`, data && `data ${data}`, index, digest,
  ].filter(Boolean).join(", ");
  const count = told.items.toLocaleString("en");
  const other = told.started_with;
  const loud = other ? `. The service was started with another model: ${whose(other)}` : "";
  if (told.ready) return `Ready: ${count} items of ${whose(told)}${loud}`;
  return `Not ready: ${told.reason} (${whose(told)})`;
}

/** Title and text for a CallError. */
export function troubleText({ kind, message }, hasKey) {
  if (kind === "key") {
    if (hasKey) return ["This key does not fit.", `The service says: ${message}.`];
    return ["A key is needed.", "This service answers only those who have one of its API keys."];
  }
  if (kind === "away") return ["The service is away.", message || "Is it still running?"];
  if (kind === "request") return ["The service refused this request.", message];
  return ["The service failed.", message];
}

/** Ids of an example: popular items of three categories, other ones each time. */
export function exampleOf(popular, given) {
  const groups = new Map();
  for (const item of popular) {
    groups.set(item.category, [...(groups.get(item.category) ?? []), item.id]);
  }
  const large = [...groups.values()].filter((ids) => ids.length >= 2);
  if (large.length < 3) return [0, 1, 2, 3, 4].flatMap((at) => popular[at * 7 + (given % 7)]?.id ?? []);
  const turns = [0, 1, 2].map((at) => large[(given * 3 + at) % large.length]);
  return turns.flatMap((ids) => ids.slice(0, 2));
}
