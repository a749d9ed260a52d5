// Model output as elements. The output is hostile: its HTML is shown as text, what Markdown makes of the rest goes
// through DOMPurify with a short list of elements, images become links, and formulas are built without trust. The
// server's Content-Security-Policy stands behind all of it.
import { copyText, h } from "./dom.js";

const { marked, DOMPurify, katex } = window;

const kPurify = {
  ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "blockquote",
    "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "a", "span"],
  ALLOWED_ATTR: ["href", "title", "class", "align", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const kClasses = /^(?:math-inline|math-display|language-[\w+#.-]{1,40}|hljs-[\w-]{1,40})$/;
const kMaxHighlighted = 60000; // characters; longer code stays plain

// Debian 12's build of DOMPurify (2.4.1, deb12u1) asks this name, which it never defines, for the depth of a node: without
// it every call throws. A depth of 0 is the answer that lets it go on to its real checks, one per element.
window.shadowNode ??= Object.freeze({ __depth: 0 });

DOMPurify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class" && !data.attrValue.split(" ").every((name) => kClasses.test(name))) data.keepAttr = false;
});
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const formula = (name, level, start, rules) => ({
  name,
  level,
  start: (src) => {
    const at = src.search(start);
    return at < 0 ? undefined : at;
  },
  tokenizer(src) {
    for (const [rule, display] of rules) {
      const match = rule.exec(src);
      if (match) return { type: name, raw: match[0], text: match[1], display };
    }
    return undefined;
  },
  renderer: ({ text, display }) =>
    `<span class="math-${display ? "display" : "inline"}">${escape(text)}</span>`,
});

marked.use({
  gfm: true,
  breaks: true,
  mangle: false,
  headerIds: false,
  extensions: [
    formula("blockFormula", "block", /(?:^|\n)(?:\$\$|\\\[)/,
      [[/^\$\$([^$]+?)\$\$[ \t]*(?:\n|$)/, true], [/^\\\[([\s\S]+?)\\\][ \t]*(?:\n|$)/, true]]),
    formula("inlineFormula", "inline", /\$|\\\(|\\\[/,
      [[/^\$\$([^$]+?)\$\$/, true], [/^\\\[([\s\S]+?)\\\]/, true], [/^\\\(([\s\S]+?)\\\)/, false],
        [/^\$(?![\s$])((?:\\.|[^$\\\n])*?[^\s$\\])\$(?!\d)/, false]]),
  ],
  renderer: {
    html: (html) => escape(html),
    image: (href, title, text) => `<a href="${escape(href ?? "")}">${escape(`image: ${text || href}`)}</a>`,
    checkbox: (checked) => (checked ? "☑ " : "☐ "),
    code: (code, language) =>
      `<pre><code class="language-${escape((language ?? "").split(/\s/)[0] || "text")}">${escape(code)}</code></pre>`,
  },
});

/** Colours code once the highlighter is there; its markup goes through the sanitiser too. */
function highlight(code, language) {
  const { hljs } = window;
  const text = code.textContent;
  if (!hljs?.getLanguage(language) || text.length > kMaxHighlighted) return;
  code.replaceChildren(DOMPurify.sanitize(hljs.highlight(language, text, true).value,
    { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true }));
}

function dressCode(pre) {
  const code = pre.querySelector("code");
  if (!code) return;
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "text";
  highlight(code, language);
  const text = code.textContent;
  const frame = h("div", { class: "code" });
  pre.replaceWith(frame);
  pre.tabIndex = 0; // scrolls with the keyboard
  frame.append(h("div", { class: "code-head" }, h("span", {}, language),
    h("button", { type: "button", class: "plain", onclick: (e) => copyText(text, e.target) }, "Copy")), pre);
}

/** The elements of one block of Markdown. */
function render(html) {
  const fragment = DOMPurify.sanitize(html, kPurify);
  for (const span of fragment.querySelectorAll(".math-inline, .math-display")) {
    katex.render(span.textContent, span, { displayMode: span.className === "math-display", throwOnError: false,
      trust: false, strict: "ignore", maxSize: 20, maxExpand: 300 });
  }
  fragment.querySelectorAll("pre").forEach(dressCode);
  for (const table of fragment.querySelectorAll("table")) {
    const frame = h("div", { class: "table", tabindex: 0 });
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

/** Markdown that grows: blocks that are as they were are left alone, so that long answers stay cheap. */
export class MarkdownView {
  constructor(element) {
    this.element = element;
    this.blocks = [];
  }

  update(text, isFinal = false) {
    const tokens = marked.lexer(text).filter((token) => token.type !== "space" && token.type !== "def");
    let same = 0;
    if (!isFinal) { // at the end everything once more: a link's address may have come after the link
      while (same < tokens.length && same < this.blocks.length && this.blocks[same] === tokens[same].raw) same += 1;
    }
    while (this.element.children.length > same) this.element.lastChild.remove();
    for (const token of tokens.slice(same)) {
      const block = h("div", { class: "block" });
      block.append(render(marked.parser([token])));
      this.element.append(block);
    }
    this.blocks = tokens.map((token) => token.raw);
  }
}
