// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// Elements of the page. Text is always text: a title is never read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element with attributes; children are elements, texts, or null for none. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const byId = (id) => document.getElementById(id);
