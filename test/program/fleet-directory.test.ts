import { readdirSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { workshop } from '../support/deployable.ts';
import { fleetSuite } from '../support/fleet-suite.ts';

fleetSuite('directory', (t) => {
  const { bucket, prefix, environment, config } = workshop(t);
  const away = `${environment}.away`;
  return Promise.resolve({
    args: [bucket, prefix, 'shop'],
    env: {},
    config: (revision) => Promise.resolve(config(revision)),
    heartbeats: () =>
      Promise.resolve(
        readdirSync(join(environment, 'machines'))
          .filter((name) => !name.startsWith('.'))
          .sort(),
      ),
    cut: () => {
      renameSync(environment, away);
      // A link that leads to itself: as good as a disk that is gone.
      symlinkSync(environment, environment);
    },
    restore: () => {
      unlinkSync(environment);
      renameSync(away, environment);
      return Promise.resolve();
    },
  });
});
