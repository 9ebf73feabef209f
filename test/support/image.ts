import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import type Docker from 'dockerode';

const SERVER = join(import.meta.dirname, 'app/server.js');

/** What `docker import` is to note in the image besides its files. */
const BASE_CONFIG = ['WORKDIR /app', 'CMD ["/bin/node","/app/server.js"]', 'ENV PATH=/bin', 'EXPOSE 9292/tcp'];

/** The name of the base image, which changes with what is in it. */
export function baseImage(): string {
  const node = statSync(realpathSync(process.execPath));
  const content = createHash('sha256').update(readFileSync(SERVER)).update(`${node.size} ${node.mtimeMs}`);
  return `wundertest/base:${content.digest('hex').slice(0, 12)}`;
}

/**
 * Makes the image of the test application unless the engine has it: this Node with the shared libraries it is linked
 * with, app/server.js, and busybox where it is installed. No other image can be had.
 */
export async function buildBaseImage(docker: Docker): Promise<string> {
  const name = baseImage();
  if (await hasImage(docker, name)) return name;
  const staging = mkdtempSync(join(tmpdir(), 'wunderimage-'));
  try {
    stage(staging);
    // Links in the staging folder stand for files of this machine.
    const tar = spawn('tar', ['--create', '--dereference', '--directory', staging, '.'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [repo = '', tag = ''] = name.split(':');
    await importImage(docker, tar.stdout, repo, tag, BASE_CONFIG);
    if (tar.exitCode === null) await once(tar, 'exit');
    if (tar.exitCode !== 0) throw new Error(`tar ended with ${tar.exitCode}`);
    return name;
  } finally {
    rmSync(staging, { recursive: true });
  }
}

/** An image that differs from `from` only in its configuration (Dockerfile instructions such as `ENV A=b`). */
export async function deriveImage(docker: Docker, from: string, name: string, changes: string[]): Promise<void> {
  const container = await docker.createContainer({ Image: from });
  try {
    const colon = name.lastIndexOf(':');
    await container.commit({ repo: name.slice(0, colon), tag: name.slice(colon + 1), changes: changes.join('\n') });
  } finally {
    await container.remove({ force: true });
  }
}

/** An image whose layers hold a file of random bytes each. */
export async function plainImage(docker: Docker, name: string, sizes: number[]): Promise<void> {
  const [first = 1, ...others] = sizes;
  const colon = name.lastIndexOf(':');
  const [repo, tag] = [name.slice(0, colon), name.slice(colon + 1)];
  await importImage(docker, tarOf('first', randomBytes(first)), repo, tag, ['CMD ["/first"]']);
  for (const [index, size] of others.entries()) {
    const container = await docker.createContainer({ Image: name });
    try {
      await container.putArchive(tarOf(`layer${index}`, randomBytes(size)), { path: '/' });
      await container.commit({ repo, tag });
    } finally {
      await container.remove();
    }
  }
}

/** A tar archive (POSIX.1-1988, ustar) with one file. */
function tarOf(name: string, content: Buffer): Readable {
  const header = Buffer.alloc(512);
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`;
  header.write(name, 0);
  header.write(octal(0o755, 7), 100);
  header.write(octal(0, 7), 108);
  header.write(octal(0, 7), 116);
  header.write(octal(content.length, 11), 124);
  header.write(octal(0, 11), 136);
  header.write('        0', 148);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const padding = Buffer.alloc(1_024 + ((512 - (content.length % 512)) % 512));
  return Readable.from([header, content, padding]);
}

export async function hasImage(docker: Docker, name: string): Promise<boolean> {
  try {
    await docker.getImage(name).inspect();
    return true;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return false;
    throw error;
  }
}

/** Reads the progress of an engine's operation to its end. Throws what it reports as an error. */
export async function finish(stream: NodeJS.ReadableStream): Promise<void> {
  let text = '';
  for await (const chunk of stream as Readable) text += String(chunk);
  const failure = text.split('\n').find((line) => line.includes('"error"'));
  if (failure !== undefined) throw new Error(failure);
}

async function importImage(docker: Docker, tar: Readable, repo: string, tag: string, changes: string[]): Promise<void> {
  await finish(await docker.importImage(tar, { repo, tag, changes }));
}

function stage(root: string): void {
  link(root, realpathSync(process.execPath), '/bin/node');
  link(root, SERVER, '/app/server.js');
  writeFileSync(join(root, 'app/package.json'), '{"type":"module"}');
  for (const library of librariesOf(process.execPath)) link(root, library, library);
  for (const applet of ['busybox', 'sh', 'sleep', 'cat']) {
    if (existsSync('/bin/busybox')) link(root, '/bin/busybox', `/bin/${applet}`);
  }
}

function link(root: string, target: string, path: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  symlinkSync(target, join(root, path));
}

function librariesOf(binary: string): string[] {
  const listed = spawnSync('ldd', [binary], { encoding: 'utf8' }).stdout;
  return [...listed.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(/gm)].map(([, path = '']) => path);
}
