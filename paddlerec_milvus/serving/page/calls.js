// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The service's calls, and what can go wrong with them, in words.

import { t } from "./language.js";

const PATIENCE = 15_000; // milliseconds
const MOST_TITLES = 100; // in one call
const LONGEST = 16_000; // characters of a query
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
  const answer = await post("candidates", signal, requestOf(settings));
  return {
    ...listOf(await answer.json()),
    stages: stagesOf(answer.headers.get("Server-Timing") ?? ""),
    roundTrip: performance.now() - began,
  };
}

/** {items, source, ranker}: the ranked list for one history, and why each item stands there. */
export async function rankedFor({ picked, topK, categories }, signal) {
  const request = { hist_item: [picked], top_k: topK, explain: true, ...filterOf(categories) };
  const found = await (await post("recommend", signal, request)).json();
  return { items: found.recommendations[0], source: found.source[0], ranker: found.ranker };
}

/** {before, is_exact, search}: what the list can be compared with. */
export async function alternatives(signal) {
  return (await call("alternatives", signal)).json();
}

/** The list of another model or index, as `settings.compare` says; `whose` it is. */
export async function alternativeFor(settings, signal) {
  const [name, value] = settings.compare.split(":");
  const by = value ? { [name]: Number(value) } : name;
  const found = await (await post("alternatives", signal, { ...requestOf(settings), by })).json();
  return { ...listOf(found), whose: found.whose };
}

/** {interest, scores, clicks}: why the model would give `item` to who picked `picked`. */
export async function explain(picked, item, signal) {
  return (await post("explain", signal, { hist_item: picked, item })).json();
}

/** {total, categories: [{name, items}]}, the largest first. */
export async function categories(signal) {
  return (await call("categories", signal)).json();
}

function requestOf({ picked, topK, diversity, quota, categories, exclude }) {
  return {
    hist_item: [picked],
    top_k: topK,
    diversity,
    exclude_history: exclude,
    titles: true,
    nearest: true,
    ...(quota ? { quota } : {}),
    ...filterOf(categories),
  };
}

const filterOf = (categories) => (categories.length ? { filter: { category: categories } } : {});

function listOf(found) {
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
  };
}

/** Items whose title or authors have `text` in them, popular ones first; all for an empty text. */
export async function titlesWith(text, limit, signal) {
  const query = new URLSearchParams({ q: text, limit });
  return (await (await call(`titles?${query}`, signal)).json()).items;
}

/** The items of these ids that the service knows. */
export async function titlesOf(ids, signal) {
  const parts = [[]];
  for (const id of ids) {
    const longer = [...parts.at(-1), ["id", id]];
    const fits = longer.length <= MOST_TITLES && `${new URLSearchParams(longer)}`.length < LONGEST;
    if (fits) parts[parts.length - 1] = longer;
    else parts.push([["id", id]]);
  }
  const found = parts.map(async (part) => {
    return (await (await call(`titles?${new URLSearchParams(part)}`, signal)).json()).items;
  });
  return (await Promise.all(found)).flat();
}

/** {ready, reason, model, data, epoch, index, digest, items, started_with}: also where the service is not ready. */
export async function readiness() {
  return (await fetch("readyz", { signal: AbortSignal.timeout(PATIENCE) })).json();
}

function post(path, signal, body) {
  return call(path, signal, { method: "POST", body: JSON.stringify(body) });
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
    throw new CallError("away", late ? t("late", { seconds: PATIENCE / 1000 }) : "");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  const text = wordsOf(body.detail) || t("status", { status: answer.status });
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
