import assert from 'node:assert/strict';
import { availableParallelism, tmpdir } from 'node:os';
import { describe, test, type TestContext } from 'node:test';
import { type Config, options, parseCommandLine, UsageError } from '../src/config.ts';
import { workerSettings } from '../src/traffic-options.ts';
import { FLEET_OPTIONS, type OptionCase } from './support/option-cases.ts';
import { runProgram } from './support/program.ts';

const ARGUMENTS = ['my-bucket', 'production', 'shop'];

/** Text, JSON, JavaScript, XML, SVG, wasm, uncompressed fonts. */
const COMPRESSED_TYPES = [
  ...['text/*', 'application/json', 'application/*+json', 'application/x-ndjson'],
  ...['application/javascript', 'application/x-javascript', 'application/xml', 'application/*+xml', 'image/svg+xml'],
  ...['application/wasm', 'font/ttf', 'font/otf', 'application/vnd.ms-fontobject'],
];

const tcp = (host: string, port: number) => ({ kind: 'tcp', host, port });

const CASES: Record<string, OptionCase> = {
  ...FLEET_OPTIONS,
  '--proxy': {
    key: 'proxy',
    value: ['127.0.0.1:8080', tcp('127.0.0.1', 8080)],
    other: ['unix:/run/proxy.sock', { kind: 'unix', path: '/run/proxy.sock' }],
    fallback: tcp('0.0.0.0', 80),
    bad: ['8080', 'example.com:80', '127.0.0.1:99999', ''],
  },
  '--tls': {
    key: 'tls',
    value: ['[::]:8443', tcp('::', 8443)],
    other: ['127.0.0.1:0', tcp('127.0.0.1', 0)],
    fallback: tcp('0.0.0.0', 443),
    bad: ['443', '::1:443'],
  },
  '--tls-cert': {
    key: 'tlsCert',
    value: ['/etc/shop.crt', ['/etc/shop.crt']],
    other: ['/etc/a.crt, /etc/b.crt', ['/etc/a.crt', '/etc/b.crt']],
    partner: '--tls-key',
    fallback: [],
    bad: [],
  },
  '--tls-key': {
    key: 'tlsKey',
    value: ['/etc/shop.key', ['/etc/shop.key']],
    other: ['/etc/a.key,/etc/b.key', ['/etc/a.key', '/etc/b.key']],
    partner: '--tls-cert',
    fallback: [],
    bad: [],
  },
  '--tls-dir': { key: 'tlsDir', value: ['/etc/tls', '/etc/tls'], other: ['tls', 'tls'], fallback: null, bad: [] },
  '--hsts': {
    key: 'hsts',
    value: ['180d', 'max-age=15552000'],
    other: ['2h, IncludeSubdomains,preload', 'max-age=7200; includeSubDomains; preload'],
    fallback: null,
    bad: ['15552000', 'preload', '180d,preload,', '180d;preload'],
  },
  '--plain-path': {
    key: 'plainPath',
    value: ['/up', ['/up']],
    other: ['/up, /health/live', ['/up', '/health/live']],
    fallback: [],
    bad: ['up', '/up?all', '/a b', '/up,health', '/up#a'],
  },
  '--api': {
    key: 'api',
    value: ['127.0.0.1:9001', tcp('127.0.0.1', 9001)],
    other: ['[::1]:9002', tcp('::1', 9002)],
    fallback: tcp('127.0.0.1', 8001),
    bad: ['8001', 'unix:relative'],
  },
  '--api-token-file': {
    key: 'apiTokenFile',
    value: ['/etc/token', '/etc/token'],
    other: ['/run/token', '/run/token'],
    fallback: null,
    bad: [],
  },
  '--registry-port': {
    key: 'registryPort',
    value: ['5000', 5_000],
    other: ['65535', 65_535],
    fallback: 8_080,
    bad: ['0', '65536', 'http', '-1', '5000.5'],
  },
  '--cfg': {
    key: 'cfg',
    value: ['/etc/shop.env', '/etc/shop.env'],
    other: ['b.env', 'b.env'],
    fallback: null,
    bad: [],
  },
  '--runtime': {
    key: 'runtime',
    value: ['process', 'process'],
    other: ['docker', 'docker'],
    fallback: 'docker',
    bad: ['podman', 'Docker', ''],
  },
  '--workers': {
    key: 'workers',
    value: ['3', 3],
    other: ['256', 256],
    fallback: availableParallelism(),
    bad: ['0', '257', 'many', '2.5', '-2'],
  },
  '--user': { key: 'user', value: ['www-data', 'www-data'], other: ['daemon', 'daemon'], bad: [] },
  '--drain-timeout': {
    key: 'drainTimeout',
    value: ['90s', 90_000],
    other: ['2h', 7_200_000],
    fallback: 30_000,
    bad: ['90', 'soon', '-1s', '1w'],
  },
  '--launch-timeout': {
    key: 'launchTimeout',
    value: ['1500ms', 1_500],
    other: ['5m', 300_000],
    fallback: 60_000,
    bad: ['60', 's'],
  },
  '--max-body': {
    key: 'maxBody',
    value: ['1GiB', 2 ** 30],
    other: ['512KiB', 2 ** 19],
    fallback: 100 * 2 ** 20,
    bad: ['1GB', 'unlimited', '-1'],
  },
  '--buffer-memory': {
    key: 'bufferMemory',
    value: ['64KiB', 2 ** 16],
    other: ['0B', 0],
    fallback: 2 ** 20,
    bad: ['1MB', '-1'],
  },
  '--buffer-memory-total': {
    key: 'bufferMemoryTotal',
    value: ['1GiB', 2 ** 30],
    other: ['16MiB', 2 ** 24],
    fallback: 256 * 2 ** 20,
    bad: ['much'],
  },
  '--spool-dir': {
    key: 'spoolDir',
    value: ['/var/spool/wunderproxy', '/var/spool/wunderproxy'],
    other: ['/mnt/spool', '/mnt/spool'],
    fallback: tmpdir(),
    bad: ['spool', './spool'],
  },
  '--spool-max': {
    key: 'spoolMax',
    value: ['1TiB', 2 ** 40],
    other: ['0', 0],
    fallback: 10 * 2 ** 30,
    bad: ['10 GiB'],
  },
  '--compress': {
    key: 'compress',
    value: ['GZIP, br', ['gzip', 'br']],
    other: ['none', []],
    fallback: ['zstd', 'br', 'gzip'],
    bad: ['deflate', 'gzip,none', 'off', ','],
  },
  '--compress-types': {
    key: 'compressTypes',
    value: ['text/*, Application/*+json', ['text/*', 'application/*+json']],
    other: ['text/css', ['text/css']],
    fallback: COMPRESSED_TYPES,
    bad: ['text', 'text/html;charset=utf-8', '*'],
  },
  '--trusted-proxies': {
    key: 'trustedProxies',
    value: ['10.0.0.0/8, 192.168.1.1,fd00::/8', ['10.0.0.0/8', '192.168.1.1', 'fd00::/8']],
    other: ['127.0.0.1', ['127.0.0.1']],
    fallback: [],
    bad: ['10.0.0.0/33', 'example.com', '10.0.0.0/8;192.168.0.0/16'],
  },
  '--host': {
    key: 'host',
    value: ['Shop.example, www.shop.example,[::1]', ['shop.example', 'www.shop.example', '[::1]']],
    other: ['localhost', ['localhost']],
    fallback: [],
    bad: ['shop.example:80', 'https://shop.example', 'a b'],
  },
  '--max-connections': {
    key: 'maxConnections',
    value: ['500', 500],
    other: ['1', 1],
    fallback: 10_000,
    bad: ['0', 'many'],
  },
  '--max-connections-per-ip': {
    key: 'maxConnectionsPerIp',
    value: ['50', 50],
    other: ['1', 1],
    fallback: null,
    bad: ['0', '1.5'],
  },
  '--body-rate': { key: 'bodyRate', value: ['1KiB', 1_024], other: ['0', 0], fallback: 500, bad: ['500B/s'] },
  '--header-timeout': {
    key: 'headerTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 30_000,
    bad: ['0s', '60', 'soon'],
  },
  '--body-timeout': {
    key: 'bodyTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 60_000,
    bad: ['0s', '60', 'soon'],
  },
  '--keep-alive-timeout': {
    key: 'keepAliveTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 75_000,
    bad: ['0s', '60', 'soon'],
  },
  '--write-timeout': {
    key: 'writeTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 60_000,
    bad: ['0s', '60', 'soon'],
  },
  '--connect-timeout': {
    key: 'connectTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 3_000,
    bad: ['0s', '60', 'soon'],
  },
  '--response-timeout': {
    key: 'responseTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 60_000,
    bad: ['0s', '60', 'soon'],
  },
  '--response-idle-timeout': {
    key: 'responseIdleTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 60_000,
    bad: ['0s', '60', 'soon'],
  },
  '--tunnel-timeout': {
    key: 'tunnelTimeout',
    value: ['1500ms', 1_500],
    other: ['2h', 7_200_000],
    fallback: 3_600_000,
    bad: ['0s', '60', 'soon'],
  },
  '--acme-domain': {
    key: 'acmeDomain',
    value: ['www.example.com', ['www.example.com']],
    other: [
      ' B.example.com, a.example.com.,b.example.com,bücher.example',
      ['b.example.com', 'a.example.com', 'xn--bcher-kva.example'],
    ],
    fallback: [],
    bad: [
      '',
      ',',
      '*.example.com',
      'localhost',
      '127.0.0.1',
      '[::1]',
      '1.2',
      'a..example.com',
      '-a.example.com',
      'a-.example.com',
      'a_b.example.com',
      'a b.example.com',
      'https://example.com',
      'example.com:443',
      'example.com/x',
      'user@example.com',
      `${'a'.repeat(64)}.example.com`,
      `${'a.'.repeat(126)}example.com`,
      Array.from({ length: 101 }, (_, i) => `w${i}.example.com`).join(','),
    ],
  },
  '--acme-email': {
    key: 'acmeEmail',
    value: ['admin@example.com', 'admin@example.com'],
    other: ['a.b+c@example.org', 'a.b+c@example.org'],
    fallback: null,
    bad: ['admin', '@example.com', 'a@b', 'a@example.com,b@example.com', 'mailto:a@example.com?cc=b@example.com', ''],
  },
  '--acme-directory': {
    key: 'acmeDirectory',
    value: ['https://127.0.0.1:14000/dir', 'https://127.0.0.1:14000/dir'],
    other: ['https://acme.example.com/directory', 'https://acme.example.com/directory'],
    fallback: 'https://acme-v02.api.letsencrypt.org/directory',
    bad: ['http://example.com/directory', 'example.com', ''],
  },
  '--access-log': {
    key: 'accessLog',
    value: ['/var/log/shop.log', { kind: 'file', path: '/var/log/shop.log' }],
    other: ['stdout', { kind: 'stdout' }],
    fallback: { kind: 'off' },
    bad: [''],
  },
  '--log-query': { key: 'logQuery', value: ['off', false], other: ['on', true], fallback: true, bad: ['yes', ''] },
  '--s3-endpoint': {
    key: 's3Endpoint',
    value: ['http://127.0.0.1:7480', 'http://127.0.0.1:7480'],
    other: ['https://s3.example.com', 'https://s3.example.com'],
    fallback: null,
    bad: ['127.0.0.1:7480', 'ftp://s3.example.com', 'nowhere'],
  },
  '--s3-path-style': { key: 's3PathStyle', value: [null, true], other: ['true', true], fallback: false, bad: [] },
  '--state-dir': { key: 'stateDir', value: ['/srv/state', '/srv/state'], other: ['/b', '/b'], bad: [] },
};

/** The variable that stands for an option: CONTRACT's `WUNDERPROXY_<NAME_IN_CAPS>`. */
function variableOf(option: string): string {
  return `WUNDERPROXY_${option.slice(2).replaceAll('-', '_').toUpperCase()}`;
}

function setVariable(t: TestContext, name: string, value: string): void {
  process.env[name] = value;
  t.after(() => {
    delete process.env[name];
  });
}

function parse(...flags: string[]): Config {
  return parseCommandLine([...flags, ...ARGUMENTS], '1.2.3');
}

/** Refused with one line that matches, and exit status 2. */
function refused(argv: string[], message: RegExp): void {
  assert.throws(
    () => parseCommandLine(argv, '1.2.3'),
    (error) => {
      assert.ok(error instanceof UsageError, String(error));
      assert.equal(error.exitCode, 2);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    },
  );
}

test('every option of the program is in this table, and no other', () => {
  assert.deepEqual(
    Object.keys(CASES).toSorted(),
    options()
      .map(({ long }) => long)
      .toSorted(),
  );
});

for (const [option, { key, value, other, fallback, bad, partner }] of Object.entries(CASES)) {
  const [text, parsed] = value;
  const [otherText, otherParsed] = other;
  const flag = text === null ? [option] : [option, text];
  const beside = (given: string | null) => (partner === undefined ? [] : [`${partner}=${given}`]);

  describe(option, () => {
    test('is read from its flag', () => {
      assert.deepEqual(parse(...flag, ...beside(text))[key], parsed);
      if (text !== null) assert.deepEqual(parse(`${option}=${text}`, ...beside(text))[key], parsed);
    });

    test('is read from its variable', (t) => {
      setVariable(t, variableOf(option), otherText);
      assert.deepEqual(parse(...beside(otherText))[key], otherParsed);
    });

    test('the flag wins over the variable', (t) => {
      setVariable(t, variableOf(option), otherText);
      assert.deepEqual(parse(...flag, ...beside(text))[key], parsed);
    });

    if (fallback !== undefined) {
      test('has its default', () => {
        assert.deepEqual(parse()[key], fallback);
      });
    }

    for (const wrong of bad) {
      test(`${JSON.stringify(wrong)} is refused with the option's name`, (t) => {
        refused([`${option}=${wrong}`, ...ARGUMENTS], new RegExp(option));
        setVariable(t, variableOf(option), wrong);
        refused(ARGUMENTS, new RegExp(variableOf(option)));
      });
    }

    if (text !== null) {
      test('is refused without a value', () => {
        refused([...ARGUMENTS, option], new RegExp(option));
      });
    }
  });
}

for (const off of ['false', '0', '']) {
  test(`--s3-path-style is off when its variable is ${JSON.stringify(off)}`, (t) => {
    setVariable(t, 'WUNDERPROXY_S3_PATH_STYLE', off);
    assert.equal(parse().s3PathStyle, false);
  });
}

test('a switch whose variable is neither on nor off is refused', (t) => {
  setVariable(t, 'WUNDERPROXY_S3_PATH_STYLE', 'yes');
  refused(ARGUMENTS, /WUNDERPROXY_S3_PATH_STYLE=yes: expected true or false/);
});

test('certificates and keys add up, and must be as many', () => {
  const { tlsCert, tlsKey } = parse('--tls-cert=a', '--tls-key=b', '--tls-cert=c,d', '--tls-key=e', '--tls-key=f');
  assert.deepEqual({ tlsCert, tlsKey }, { tlsCert: ['a', 'c', 'd'], tlsKey: ['b', 'e', 'f'] });
  refused(['--tls-cert=a', '--tls-cert=b', '--tls-key=c', ...ARGUMENTS], /--tls-cert and --tls-key .* 2 and 1/);
  refused(['--tls-key=c', ...ARGUMENTS], /--tls-cert and --tls-key .* 0 and 1/);
});

describe('the manager API', () => {
  test('is open to others by default once there is a token', () => {
    assert.deepEqual(parse('--api-token-file', '/etc/token').api, tcp('0.0.0.0', 8001));
  });

  for (const address of ['0.0.0.0:8001', '[::]:8001', '192.168.1.1:8001', '[::ffff:10.0.0.1]:8001']) {
    test(`is refused on ${address} without a token, and taken with one`, () => {
      refused(['--api', address, ...ARGUMENTS], /--api .* needs --api-token-file: .* owns this host/);
      assert.equal(parse('--api', address, '--api-token-file', '/etc/token').api.kind, 'tcp');
    });
  }

  test('an address from the environment needs the token as well', (t) => {
    setVariable(t, 'WUNDERPROXY_API', '0.0.0.0:8001');
    refused(ARGUMENTS, /needs --api-token-file/);
  });

  for (const address of ['127.0.0.1:1', '127.8.8.8:1', '[::1]:1', 'localhost:1', 'unix:/run/api.sock']) {
    test(`is taken on ${address} without a token`, () => {
      assert.equal(parse('--api', address).apiTokenFile, null);
    });
  }
});

describe('arguments', () => {
  test('are the bucket, the prefix and the application', () => {
    const { bucket, prefix, app } = parse();
    assert.deepEqual([bucket, prefix, app], ARGUMENTS);
  });

  test('may follow the word run, and options may stand anywhere', () => {
    const config = parseCommandLine(['run', 'my-bucket', '--workers', '2', 'production', 'shop'], '1.2.3');
    assert.deepEqual([config.bucket, config.workers, config.app], ['my-bucket', 2, 'shop']);
  });

  test('a prefix loses the slashes around it', () => {
    assert.equal(parseCommandLine(['b', '/a/b/', 'shop'], '1').prefix, 'a/b');
  });

  const wrong: [string, string[], RegExp][] = [
    ['none', [], /missing required argument 'bucket'/],
    ['no application', ['b', 'p'], /missing required argument 'app'/],
    ['one too many', [...ARGUMENTS, 'more'], /too many arguments/],
    ['an unknown option', ['--nope', ...ARGUMENTS], /unknown option '--nope'/],
    ['a part of an option', ['--work', '2', ...ARGUMENTS], /unknown option '--work'/],
    [
      'a relative directory as bucket',
      ['file://dir', 'p', 'shop'],
      /bucket file:\/\/dir: expected file:\/\/\/absolute/,
    ],
    ['a bucket with a slash', ['a/b', 'p', 'shop'], /bucket a\/b: expected/],
    ['a prefix that climbs', ['b', 'a/../b', 'shop'], /prefix a\/\.\.\/b: expected/],
    ['an empty prefix', ['b', '/', 'shop'], /prefix \/: expected/],
    ['an application in capitals', ['b', 'p', 'Shop'], /app Shop: expected/],
    ['an application that is a path', ['b', 'p', 'a/b'], /app a\/b: expected/],
  ];
  for (const [what, argv, message] of wrong) {
    test(`${what} is refused`, () => {
      refused(argv, message);
    });
  }
});

test('what all workers may put on disk together is never more than --spool-max', () => {
  for (const workers of [1, 2, 3, 7]) {
    const config = parseCommandLine(['--spool-max', '1000B', ...ARGUMENTS], '0');
    const { totalDisk } = workerSettings(config, workers, null).spool;
    assert.ok(totalDisk > 0 && totalDisk * workers <= 1_000, `${workers} workers`);
  }
});

describe('the program', () => {
  test('refuses a bad value with one line and status 2, and starts nothing', async (t) => {
    const { code, stdout, stderr } = await runProgram(t, { args: ['--workers', 'many', ...ARGUMENTS] });
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, /^wunderproxy: [^\n]*--workers[^\n]*\n$/);
  });

  test('refuses a file that is not there with one line and status 1', async (t) => {
    const { code, stdout, stderr } = await runProgram(t, { args: ['--cfg', '/nowhere/cfg', ...ARGUMENTS] });
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /^wunderproxy: --cfg \/nowhere\/cfg: [^\n]*\n$/);
  });

  for (const flag of ['--help', '--version']) {
    test(`${flag} is no mistake`, async (t) => {
      const { code, stdout, stderr } = await runProgram(t, { args: [flag] });
      assert.equal(code, 0);
      assert.equal(stderr, '');
      assert.match(stdout, flag === '--help' ? /--drain-timeout/ : /^\d+\.\d+\.\d+/);
    });
  }
});
