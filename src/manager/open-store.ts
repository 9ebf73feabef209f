import type { Config } from '../config.ts';
import type { Logger } from '../log.ts';
import { DirectoryStore } from './directory-store.ts';
import type { ConfigStore } from './store.ts';

/**
 * The store that a command line names; nothing is read or written yet. `log` is told once when an S3 store lacks
 * conditional writes. Throws `store_unavailable` when the bucket is a `file:` URL without a usable path.
 */
export async function openStore(
  config: Pick<Config, 'bucket' | 'prefix' | 's3Endpoint' | 's3PathStyle'>,
  log: Logger,
): Promise<ConfigStore> {
  const options = { endpoint: config.s3Endpoint, pathStyle: config.s3PathStyle };
  if (!config.bucket.startsWith('file:')) {
    const { createS3Client, S3Store } = await import('./s3-store.ts');
    return new S3Store(createS3Client(options), config.bucket, config.prefix, log);
  }
  return new DirectoryStore(config.bucket, config.prefix, async (bucket, key, signal) => {
    // Only here, so that a directory store starts without the SDK's time and memory.
    const { createS3Client, openS3Artifact } = await import('./s3-store.ts');
    const client = createS3Client(options);
    const letGo = () => {
      client.destroy();
    };
    try {
      const archive = await openS3Artifact(client, bucket, key, signal);
      if (!archive) letGo();
      return archive?.once('close', letGo) ?? null;
    } catch (error) {
      letGo();
      throw error;
    }
  });
}
