import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';

/** Whether packages can be installed here without asking anybody: a Debian, and root. */
export function canInstall(): boolean {
  return process.getuid?.() === 0 && existsSync('/etc/debian_version') && existsSync('/usr/bin/apt-get');
}

/** Those of the packages that dpkg does not know as installed. */
export function missingPackages(packages: string[]): string[] {
  const asked = spawnSync('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Status}\n', ...packages], {
    encoding: 'utf8',
  });
  const installed = new Set(
    (asked.stdout ?? '').split('\n').flatMap((line) => {
      const [name, status] = line.split(' ');
      return status === 'installed' && name !== undefined ? [name] : [];
    }),
  );
  return packages.filter((name) => !installed.has(name));
}

/** Installs packages with apt. Throws an Error with apt's last lines when that fails. */
export function installPackages(packages: string[]): void {
  apt(['update']);
  apt(['install', '--yes', '--no-install-recommends', ...packages]);
}

/** Unpacks a package below `dir` without installing it: for a tool whose package would start a service. */
export function unpackPackage(name: string, dir: string): void {
  if (spawnSync('apt-cache', ['show', name], { stdio: 'ignore' }).status !== 0) apt(['update']);
  apt(['download', name], dir);
  const [archive = ''] = globSync(`${name}_*.deb`, { cwd: dir });
  execFileSync('dpkg', ['-x', archive, dir], { cwd: dir });
}

function apt(args: string[], cwd?: string): void {
  const patience = ['-o', 'Acquire::Retries=3', '-o', 'Acquire::http::Timeout=30', '-o', 'DPkg::Lock::Timeout=120'];
  const done = spawnSync('apt-get', ['-q', ...patience, ...args], {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 2 ** 20,
    timeout: 15 * 60_000,
    cwd,
  });
  if (done.status === 0) return;
  const said = `${done.stdout ?? ''}${done.stderr ?? ''}`.trim().split('\n').slice(-15).join('\n');
  const ended = done.error?.message ?? `status ${done.status ?? done.signal}`;
  throw new Error(`apt-get ${args.join(' ')} ended with ${ended}:\n${said}`);
}
