import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TlsFiles } from './subject.ts';

/** What a peer's configuration is made from. */
export interface Place {
  port: number;
  /** `host:port` of the application. */
  app: string;
  /** Of its own, to write to; everybody may look into it. */
  folder: string;
  tls: TlsFiles | null;
  workers: number;
  /** The access log's file. */
  log: string;
}

/**
 * A product to compare with. All have the same duties: an access log in a file, kept-alive connections to the
 * application, `X-Forwarded-For`, `-Proto` and `-Host`, gzip where they can, bodies as large as wunderproxy's default,
 * as many workers. Everything else is as the product comes.
 */
export interface Peer {
  name: string;
  command: string;
  versionArgs: string[];
  tls: boolean;
  only?: string;
  args(config: string, place: Place): string[];
  /** Content of its configuration file. */
  config(place: Place): string;
  env?(place: Place): Record<string, string>;
  /** Its log is what it writes to stdout. */
  logsToStdout?: boolean;
}

const nginx: Peer = {
  name: 'nginx',
  command: 'nginx',
  versionArgs: ['-v'],
  tls: true,
  args: (config, { folder }) => ['-c', config, '-p', folder, '-e', join(folder, 'error.log')],
  config: ({ port, app, folder, tls, workers, log }) => `
    worker_processes ${workers};
    daemon off;
    pid ${folder}/pid;
    events { worker_connections 16384; }
    http {
      access_log ${log} combined;
      gzip on;
      gzip_proxied any;
      client_max_body_size 100m;
      client_body_temp_path ${folder}/body;
      proxy_temp_path ${folder}/proxy;
      fastcgi_temp_path ${folder}/fastcgi;
      uwsgi_temp_path ${folder}/uwsgi;
      scgi_temp_path ${folder}/scgi;
      # Its default closes a connection after 1,000 requests, which load generators take for failures.
      keepalive_requests 1000000000;
      upstream app {
        server ${app};
        keepalive 1024;
        keepalive_requests 1000000000;
      }
      server {
        listen 127.0.0.1:${port} ${tls ? 'ssl http2 ' : ''}backlog=4096;
        ${tls ? `ssl_certificate ${tls.cert}; ssl_certificate_key ${tls.key}; ssl_protocols TLSv1.2 TLSv1.3;` : ''}
        location / {
          proxy_pass http://app;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_set_header Host $http_host;
          proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
          proxy_set_header X-Forwarded-Proto $scheme;
          proxy_set_header X-Forwarded-Host $http_host;
        }
      }
    }`,
};

/** It has no way to buffer whole bodies; `http-buffer-request` reaches as far as one buffer (16 KiB). */
const haproxy: Peer = {
  name: 'haproxy',
  command: 'haproxy',
  versionArgs: ['-v'],
  tls: true,
  args: (config) => ['-db', '-f', config],
  // It can't write to a file itself.
  logsToStdout: true,
  config: ({ port, app, tls, workers }) => `
global
  nbthread ${workers}
  log stdout format raw daemon
defaults
  mode http
  log global
  option httplog
  option forwardfor
  option http-buffer-request
  http-reuse always
  timeout connect 60s
  timeout client 75s
  timeout server 60s
  compression algo gzip
  compression type text/html text/plain text/css application/json application/javascript
listen bench
  bind 127.0.0.1:${port} backlog 4096 ${tls ? `ssl crt ${joined(tls)} alpn h2,http/1.1 ssl-min-ver TLSv1.2` : ''}
  http-request set-header X-Forwarded-Proto ${tls ? 'https' : 'http'}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  server app ${app}
`,
};

/** Certificate and key in one file, as HAProxy wants them. */
function joined({ cert }: TlsFiles): string {
  return cert.replace(/\.crt$/, '.pem');
}

/** Off by default; what is larger than the size is not buffered. */
const BUFFERED = `
    buffer_requests
    buffer_responses
    max_buffer_size 1MiB`;

function caddy(handling: string): Peer {
  return {
    name: handling === '' ? 'caddy' : 'caddy-buffered',
    ...(handling !== '' && { only: 'slow-clients' }),
    command: 'caddy',
    versionArgs: ['version'],
    tls: true,
    args: (config) => ['run', '--adapter', 'caddyfile', '--config', config],
    env: ({ workers, folder }) => ({ GOMAXPROCS: String(workers), HOME: folder }),
    config: ({ port, app, log, tls }) => `
{
  admin off
  auto_https off
  default_sni localhost
  servers {
    protocols h1 h2
  }
}
${tls ? 'https' : 'http'}://:${port} {
  bind 127.0.0.1
  log {
    output file ${log}
  }
  encode gzip
  ${tls ? `tls ${tls.cert} ${tls.key}` : ''}
  reverse_proxy ${app} {${handling}
    transport http {
      keepalive_idle_conns 2048
      keepalive_idle_conns_per_host 2048
    }
  }
}
`,
  };
}

const packages = join(import.meta.dirname, 'node_modules');

/** A proxy from npm, as a server of our own (peers/). They do not compress. */
function fromNpm(name: string, packageName: string, file: string): Peer {
  return {
    name,
    command: process.execPath,
    versionArgs: ['-p', `require(${JSON.stringify(join(packages, packageName, 'package.json'))}).version`],
    tls: true,
    args: () => [join(import.meta.dirname, 'peers', file)],
    config: () => '',
    env: ({ port, app, workers, log, tls }) => ({
      PORT: String(port),
      APP: app,
      WORKERS: String(workers),
      LOG: log,
      ...(tls && { CERT: tls.cert, KEY: tls.key }),
    }),
  };
}

/** Every peer, with the package that it comes in when it is one of npm. */
export const PEERS: readonly Peer[] = [
  nginx,
  haproxy,
  caddy(''),
  caddy(BUFFERED),
  fromNpm('http-proxy-3', 'http-proxy-3', 'http-proxy-3.js'),
  fromNpm('fastify', '@fastify/http-proxy', 'fastify.js'),
];

/** Whether the packages that only the benchmarks need are installed. */
export function packagesInstalled(): boolean {
  const file = join(packages, '.package-lock.json');
  return existsSync(file) && readFileSync(file, 'utf8').includes('"node_modules/autocannon"');
}
