import type { Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import Koa, { type Middleware } from 'koa';
import { renderSections } from '../../src/web/sections.ts';
import { asset, render } from '../../src/web/views.ts';
import type { PageModel } from '../../src/web/model.ts';
import type { Cleanup } from '../support/processes.ts';

/** The status page as a browser gets it. */
export function pageOf(model: PageModel, { loggedIn = false } = {}): string {
  const body = render('page', { app: model.status.App, sections: renderSections(model) });
  return render('layout', { title: 'Status · shop', app: 'shop', host: model.host, body, live: true, loggedIn }).text;
}

/** Bytes of everything that a page loads. */
export function weight(html: string): number {
  return Buffer.byteLength(html) + Buffer.byteLength(asset('page.css')) + Buffer.byteLength(asset('live.js'));
}

/** A Koa application on a free port of 127.0.0.1, as `host:port`; ends with the test. */
export async function serve(t: Cleanup, middleware: Middleware): Promise<string> {
  const app = new Koa();
  app.silent = true;
  app.use(middleware);
  const server: Server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
