// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// What the page says of answers: where candidates come from, what went wrong, how items are called.

import { locale, t } from "./language.js";

export const nameOf = (item) => item.title ?? t("item", { id: item.id });
export const letterOf = (interest) => String.fromCharCode(65 + interest);
export const scoreText = (score) => score.toFixed(Math.abs(score) < 100 ? 3 : 1);

export function yearText(year) {
  return year.startsWith("-") ? t("before_christ", { year: year.slice(1) }) : year;
}

export function headline({ source, items }) {
  if (!items.length) return t("no_candidates");
  return t(source === "model" ? "candidates" : "popular");
}

/** Where a list comes from. */
export function sourceText({ source, items, unknown, nearest }, count) {
  const picks = t("picks", { count });
  const left = unknown ? ` ${t("unknown", { picks: t("picks", { count: unknown }) })}` : "";
  if (source === "model") {
    const values = { count: items.length, interests: interestsText(items, nearest), picks };
    return t("found_by", values) + left;
  }
  if (source === "fallback") return t("from_fallback");
  if (source === "short") return t("from_short") + left;
  return count ? t("from_unknown") + left : t("from_popular");
}

function interestsText(items, nearest) {
  const count = new Set(items.map((item) => item.interest)).size;
  const all = nearest.length;
  return all > count ? t("interests_of", { count, all }) : t("interests", { count });
}

/** Whose model answers, or why none does; loud where the service was started with another one. */
export function modelText(told) {
  const whose = whoseText(told);
  const items = told.items.toLocaleString(locale());
  const other = told.started_with;
  const loud = other ? t("other_model", { whose: whoseText(other) }) : "";
  if (told.ready) return t("ready", { items, whose }) + loud;
  return t("not_ready", { reason: told.reason, whose });
}

export function whoseText({ model, epoch, data, index, digest }) {
  const parts = [model, epoch === null ? "" : t("epoch", { epoch })];
  return [...parts, data && t("data", { data }), index, digest].filter(Boolean).join(", ");
}

/** Model, epoch, data and index as rows [key, name, value] of a table. */
export function facts({ model, epoch, data, data_fingerprint, index, digest, items }) {
  const rows = {
    model,
    epoch: epoch === null || epoch === undefined ? "" : `${epoch}`,
    data,
    fingerprint: data_fingerprint,
    index: index === "exact" ? t("fact_exact") : index,
    digest,
    ...(items === undefined ? {} : { items: items.toLocaleString(locale()) }),
  };
  return Object.entries(rows).map(([key, value]) => {
    return [key, t(`fact_${key}`), value || t("fact_unknown")];
  });
}

/** Title and text for a CallError. */
export function troubleText({ kind, message }, hasKey) {
  if (kind === "key") {
    if (hasKey) return [t("key_wrong"), t("says", { message })];
    return [t("key_needed"), t("key_needed_text")];
  }
  if (kind === "away") return [t("away"), message || t("away_text")];
  return [t(kind === "request" ? "refused" : "failed"), message];
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
