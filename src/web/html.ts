/** Markup that is safe to be shown as it is. */
export class Html {
  readonly text: string;

  /** Use `html` or `raw`. */
  constructor(text: string) {
    this.text = text;
  }

  toString(): string {
    return this.text;
  }
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/**
 * Text as it is written into markup, attributes in quotes included. Control characters, which HTML forbids and terminals
 * obey, and those that turn the direction of text around become visible.
 */
export function escape(text: string): string {
  return text
    .replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, '\ufffd')
    .replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

/** Markup that this program has made. */
export function raw(text: string): Html {
  return new Html(text);
}

/** Templates without the line breaks and indentation that are for people who read the source. */
const compacted = new WeakMap<TemplateStringsArray, string[]>();

/** A template for markup: everything that is put in is escaped, except Html and lists of it. */
export function html(strings: TemplateStringsArray, ...values: unknown[]): Html {
  let parts = compacted.get(strings);
  if (!parts) {
    parts = strings.map((part) => part.replace(/\s*\n\s*/g, '\n').replace(/>\n</g, '><'));
    compacted.set(strings, parts);
  }
  let text = parts[0] ?? '';
  values.forEach((value, at) => (text += markup(value) + (parts[at + 1] ?? '')));
  return new Html(text);
}

/** What a value becomes in markup; null and undefined become nothing. */
export function markup(value: unknown): string {
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(markup).join('');
  return value === null || value === undefined ? '' : escape(String(value));
}
