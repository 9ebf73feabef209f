import { randomBytes } from 'node:crypto';
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import type { Cleanup } from './processes.ts';
import { endPrograms } from './program.ts';

export interface TestS3 {
  endpoint: string;
  /** Fresh and empty, and gone after the test. */
  bucket: string;
  /** Credentials, and nothing else from which the SDK could take settings. */
  env: Record<string, string>;
  client: S3Client;
}

/** Where the runner started an S3, or the one that TEST_S3_ENDPOINT and the standard AWS_… variables name. */
export async function s3ForTest(t: Cleanup): Promise<TestS3> {
  const endpoint = process.env.TEST_S3_ENDPOINT;
  const accessKeyId = process.env.TEST_S3_KEY ?? process.env.AWS_ACCESS_KEY_ID;
  const secretAccessKey = process.env.TEST_S3_SECRET ?? process.env.AWS_SECRET_ACCESS_KEY;
  if (!endpoint || !accessKeyId || !secretAccessKey) {
    throw new Error('There is no S3 to test with: run this file with `npm test -- FILE`.');
  }
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const bucket = `wundertest-${randomBytes(6).toString('hex')}`;
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  t.after(async () => {
    // A heartbeat that came in between would keep the bucket.
    await endPrograms(t);
    await removeBucket(client, bucket);
    client.destroy();
  });
  const env = {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  return { endpoint, bucket, env, client };
}

async function removeBucket(client: S3Client, Bucket: string): Promise<void> {
  let truncated: boolean | undefined;
  do {
    const page = await client.send(new ListObjectsV2Command({ Bucket }));
    const keys = (page.Contents ?? []).flatMap(({ Key }) => (Key === undefined ? [] : [Key]));
    await inBatches(keys, 16, async (Key) => {
      await client.send(new DeleteObjectCommand({ Bucket, Key }));
    });
    truncated = page.IsTruncated === true && keys.length > 0;
  } while (truncated);
  await client.send(new DeleteBucketCommand({ Bucket }));
}

/** Does `act` for each item, `width` at a time. */
export async function inBatches<T>(items: T[], width: number, act: (item: T) => Promise<void>): Promise<void> {
  for (let from = 0; from < items.length; from += width) await Promise.all(items.slice(from, from + width).map(act));
}
