// http-proxy-3 as a server: one process per worker, everything else as the library does it.
import cluster from 'node:cluster';
import { createWriteStream, readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createProxyServer } from 'http-proxy-3';

const { PORT, APP, WORKERS, LOG, CERT, KEY } = process.env;

if (cluster.isPrimary) {
  for (let i = 0; i < Number(WORKERS); i++) cluster.fork();
  cluster.on('exit', () => process.exit(1));
} else {
  const log = createWriteStream(LOG, { flags: 'a' });
  const proxy = createProxyServer({
    target: `http://${APP}`,
    xfwd: true,
    agent: new http.Agent({ keepAlive: true }),
  });
  proxy.on('error', (_error, _request, response) => {
    if ('headersSent' in response && !response.headersSent) response.writeHead(502).end();
    else response.destroy();
  });
  const handle = (request, response) => {
    const begun = performance.now();
    response.once('close', () => {
      const ms = (performance.now() - begun).toFixed(1);
      const line = `${request.socket.remoteAddress} [${new Date().toISOString()}] "${request.method} ${request.url}"`;
      log.write(`${line} ${response.statusCode} ${response.getHeader('content-length') ?? '-'} ${ms}\n`);
    });
    proxy.web(request, response);
  };
  const settings = { keepAliveTimeout: 75_000 };
  const server = CERT
    ? https.createServer({ ...settings, cert: readFileSync(CERT), key: readFileSync(KEY) }, handle)
    : http.createServer(settings, handle);
  server.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 4_096 });
}
