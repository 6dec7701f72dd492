// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// What tells one interest from the others: categories, or where there are none authors.

const NAMES = 2; // of an interest

/** The name of each interest, "" where none is its own; `lists` are the items of each. */
export function namesApart(lists) {
  const items = lists.flat();
  const termOf = items.some((item) => item.category) ? (item) => item.category : mainAuthor;
  const shares = lists.map((list) => sharesOf(list, termOf));
  return shares.map((own, at) => {
    const ahead = (term) => {
      const others = shares.filter((_, other) => other !== at);
      return own.get(term) - Math.max(0, ...others.map((share) => share.get(term) ?? 0));
    };
    const apart = [...own.keys()].filter((term) => ahead(term) > 0);
    return apart.sort((one, other) => ahead(other) - ahead(one)).slice(0, NAMES).join(", ");
  });
}

/** The first of several authors: those after it translated or drew. */
export function mainAuthor(item) {
  return item.authors?.split(",")[0].trim();
}

/** For each term that two items have at least, the share of the items that have it. */
function sharesOf(list, termOf) {
  const counts = new Map();
  for (const term of list.map(termOf).filter(Boolean)) counts.set(term, (counts.get(term) ?? 0) + 1);
  const common = [...counts].filter(([, count]) => count > 1);
  return new Map(common.map(([term, count]) => [term, count / list.length]));
}
