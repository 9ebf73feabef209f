import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { Eta } from 'eta';
import { html, type Html, markup, raw } from './html.ts';

/** The same folder from src/ and from dist/. */
const folder = join(import.meta.dirname, '../../views');

const BLOCK =
  '(?:t[rdh]|thead|tbody|table|caption|d[ltd]|div|[uo]l|li|p|h\\d|section|article|figure|details|svg|pattern)\\b';
const betweenBlocks = new RegExp(`(</${BLOCK}>)\\n|\\n(?=</?${BLOCK})`, 'g');

/** Indentation and line breaks are for people who read the templates; the page is smaller without. */
const unindent = {
  processTemplate: (template: string) => template.replace(/\n\s*/g, '\n').replace(betweenBlocks, '$1'),
};

const eta = new Eta({ views: folder, cache: true, autoEscape: true, escapeFunction: markup, plugins: [unindent] });

/** A template of views/ with its data (`it` in the template). Everything that it shows is escaped, except Html. */
export function render(template: string, data: object): Html {
  return raw(eta.render(template, { ...data, html }));
}

/** A file of views/ as it is served: without what is for people who read the source. Throws when it is not there. */
export function asset(name: 'page.css' | 'live.js' | 'icon.svg'): string {
  const text = readFileSync(join(folder, name), 'utf8');
  switch (name) {
    case 'page.css':
      return text
        .replace(/\s+/g, ' ')
        .replace(/ ?([{};,]|: ) ?/g, (_, sign: string) => sign.trim())
        .replaceAll(';}', '}')
        .replace(/([ :(,])0\./g, '$1.');
    case 'live.js':
      return text.replace(/^\s+/gm, '').replace(/^\/[/*].*\n/gm, '');
    case 'icon.svg':
      return text;
  }
}
