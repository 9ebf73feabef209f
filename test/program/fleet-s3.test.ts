import { ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import { processConfig } from '../support/deployable.ts';
import { fleetSuite } from '../support/fleet-suite.ts';
import { s3ForTest } from '../support/s3.ts';
import { Tap } from '../support/tap.ts';

const PREFIX = 'shop/production';

fleetSuite('S3', async (t) => {
  const { bucket, client, endpoint, env } = await s3ForTest(t);
  const tap = await Tap.start(t, { url: endpoint });
  return {
    args: ['--s3-endpoint', tap.url, '--s3-path-style', bucket, PREFIX, 'shop'],
    env,
    config: async (revision) => {
      const { hash, bytes } = processConfig(revision);
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: `${PREFIX}/container.${hash}.json`, Body: bytes }));
      return hash;
    },
    heartbeats: async () => {
      const folder = `${PREFIX}/machines/`;
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: folder }));
      return Contents.map(({ Key = '' }) => Key.slice(folder.length));
    },
    cut: () => tap.cut(),
    restore: async () => tap.restore(),
  };
});
