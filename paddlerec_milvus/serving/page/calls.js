// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The service's calls, and what can go wrong with them, in words.

const PATIENCE = 15_000; // milliseconds
const KEY = "api-key"; // kept in this tab's sessionStorage, nowhere else

/** kind: "key" (401, 403), "request" (another 4xx), "failed" (5xx) or "away" (no answer). */
export class CallError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Candidates for one history, with the milliseconds of each stage and of the round trip. */
export async function candidatesFor(settings, signal) {
  const began = performance.now();
  const body = {
    hist_item: [settings.picked],
    top_k: settings.topK,
    diversity: settings.diversity,
    exclude_history: settings.exclude,
    titles: true,
    nearest: true,
  };
  const answer = await call("candidates", signal, { method: "POST", body: JSON.stringify(body) });
  const found = await answer.json();
  return {
    items: found.candidates[0].map((id, at) => ({
      id,
      title: found.titles?.[0][at] ?? null,
      category: found.categories?.[0][at] ?? null,
      score: found.scores[0][at],
      interest: found.interest[0][at],
    })),
    source: found.source[0],
    unknown: found.unknown[0].length,
    nearest: found.nearest?.[0] ?? [],
    stages: stagesOf(answer.headers.get("Server-Timing") ?? ""),
    roundTrip: performance.now() - began,
  };
}

/** Items whose title has `text` in it, popular ones first; all of them for an empty text. */
export async function titlesWith(text, limit, signal) {
  const query = new URLSearchParams({ q: text, limit });
  return (await (await call(`titles?${query}`, signal)).json()).items;
}

/** The items of these ids that the service knows. */
export async function titlesOf(ids, signal) {
  const query = new URLSearchParams(ids.map((id) => ["id", id]));
  return (await (await call(`titles?${query}`, signal)).json()).items;
}

/** {ready, reason, model, data, epoch, index, digest, items, started_with}: also where the service is not ready. */
export async function readiness() {
  return (await fetch("readyz", { signal: AbortSignal.timeout(PATIENCE) })).json();
}

async function call(path, signal, options = {}) {
  // JavaScript has no integers above 2^53: here ids are strings, whatever they are in the log
  const headers = { "Content-Type": "application/json", "X-Ids-As-Text": "1" };
  if (hasKey()) headers["X-API-Key"] = sessionStorage.getItem(KEY);
  const either = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, signal: either });
  } catch (error) {
    if (signal.aborted) throw error;
    const late = error.name === "TimeoutError";
    throw new CallError("away", late ? `It did not answer within ${PATIENCE / 1000} s.` : "");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  const text = wordsOf(body.detail) || `The service answered ${answer.status}.`;
  if (answer.status === 401 || answer.status === 403) return new CallError("key", text);
  return new CallError(answer.status < 500 ? "request" : "failed", text);
}

/** A refusal's `detail` is a text, or a list of {loc, msg}. */
function wordsOf(detail) {
  if (!Array.isArray(detail)) return detail;
  return detail.map(({ loc, msg }) => `${loc.slice(1).join(".")}: ${msg}.`).join(" ");
}

function stagesOf(header) {
  const stages = [];
  for (const part of header.split(",")) {
    const [name, ...fields] = part.split(";").map((each) => each.trim());
    const took = fields.find((field) => field.startsWith("dur="));
    if (took) stages.push({ name, took: Number(took.slice(4)) });
  }
  return stages;
}
