import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  containerPort,
  imageReference,
  type LaunchConfig,
  matchesHash,
  parseIdentifier,
  parseLaunchConfig,
} from '../../src/manager/launch-config.ts';

const MINIMAL = { ContainerConfig: {}, HealthCheckPath: '/up', Revision: 'v1' };

function config(overrides: object = {}): LaunchConfig {
  return parseLaunchConfig(Buffer.from(JSON.stringify({ ...MINIMAL, ...overrides })));
}

test('identifiers are MD5 or SHA-256 in hex, in either case', () => {
  assert.equal(parseIdentifier('D41D8CD98F00B204E9800998ECF8427E'), 'd41d8cd98f00b204e9800998ecf8427e');
  assert.equal(parseIdentifier('a'.repeat(64)), 'a'.repeat(64));
  for (const bad of ['', 'x', 'a'.repeat(31), 'a'.repeat(33), 'g'.repeat(32), '../../etc/passwd', 'a'.repeat(63)]) {
    assert.throws(() => parseIdentifier(bad), { code: 'bad_identifier' }, bad);
  }
});

test('the hash of the bytes is told apart by its length', () => {
  const bytes = Buffer.from('hello');
  assert.ok(matchesHash(bytes, '5d41402abc4b2a76b9719d911017c592'));
  assert.ok(matchesHash(bytes, '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'));
  assert.equal(matchesHash(bytes, '5d41402abc4b2a76b9719d911017c593'), false);
});

const invalid: [string, unknown, RegExp][] = [
  ['not JSON', '{"Revision":', /not JSON/],
  ['no content', ' \n', /is empty/],
  ['a comma too many', '{\n  "Revision": "v1",\n}', /not JSON: line 3, column 1/],
  ['not an object', [], /expected object/],
  ['no revision', { ...MINIMAL, Revision: undefined }, /Revision: is missing/],
  ['no health check', { ...MINIMAL, HealthCheckPath: undefined }, /HealthCheckPath: is missing/],
  ['no container config', { ...MINIMAL, ContainerConfig: undefined }, /ContainerConfig/],
  ['an unknown key', { ...MINIMAL, HealthcheckPath: '/up' }, /unknown key HealthcheckPath/],
  ['a revision that is no tag', { ...MINIMAL, Revision: 'v1/2' }, /Revision: .*image tag/],
  ['a port out of range', { ...MINIMAL, ContainerPort: 70_000 }, /ContainerPort/],
  ['an environment that is no list', { ...MINIMAL, ContainerConfig: { Env: { A: '1' } } }, /ContainerConfig\.Env/],
  ['a health check that would split the request', { ...MINIMAL, HealthCheckPath: '/up HTTP/1.1\r\nX: y' }, /spaces/],
];

for (const [what, content, message] of invalid) {
  test(`a launch config with ${what} is refused by name`, () => {
    const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
    assert.throws(() => parseLaunchConfig(bytes), { code: 'invalid_launch_config', message });
  });
}

test('every problem of a launch config is named at once', () => {
  assert.throws(
    () => parseLaunchConfig(Buffer.from('{"Color":"blue"}')),
    (error: Error) =>
      ['ContainerConfig', 'HealthCheckPath', 'Revision', 'Color'].every((name) => error.message.includes(name)),
  );
});

test("Docker's own keys are handed on whatever they are called", () => {
  const parsed = config({ ContainerConfig: { FutureKey: { a: 1 } }, HostConfig: { Memory: 5 } });
  assert.deepEqual(parsed.ContainerConfig['FutureKey'], { a: 1 });
  assert.deepEqual(parsed.HostConfig, { Memory: 5 });
});

const ports: [object, string[], number][] = [
  [{}, [], 9292],
  [{ ContainerPort: 80 }, ['3000/tcp'], 80],
  [{ ContainerConfig: { ExposedPorts: { '3000/tcp': {} } } }, [], 3000],
  [{ ContainerConfig: { ExposedPorts: { '3000': {} } } }, [], 3000],
  [{ ContainerConfig: { ExposedPorts: { '53/udp': {}, '3000/tcp': {} } } }, [], 3000],
  [{ ContainerConfig: { ExposedPorts: { '1/tcp': {}, '2/tcp': {} } } }, [], 9292],
  [{}, ['8080/tcp'], 8080],
];

for (const [overrides, image, expected] of ports) {
  test(`the port of ${JSON.stringify(overrides)} on an image that exposes [${image}] is ${expected}`, () => {
    assert.equal(containerPort(config(overrides), image), expected);
  });
}

const images: [string | undefined, string][] = [
  [undefined, 'localhost:8080/shop:v1'],
  ['', 'localhost:8080/shop:v1'],
  ['v7', 'localhost:8080/shop:v1'],
  ['redis:7', 'redis:7'],
  ['registry.example.com/team/shop', 'registry.example.com/team/shop'],
  ['shop@sha256:abc', 'shop@sha256:abc'],
];

for (const [image, expected] of images) {
  test(`the image ${JSON.stringify(image)} stands for ${expected}`, () => {
    assert.equal(imageReference(config({ ContainerConfig: { Image: image } }), 'shop', 8080), expected);
  });
}
