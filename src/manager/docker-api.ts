import { type Readable } from 'node:stream';
import type Docker from 'dockerode';
import { type ContainerCreateOptions } from 'dockerode';

/**
 * Calls of the Docker API that dockerode makes in a way we can't use, or whose parameters its types lack.
 */

/** `GET /_ping`. */
export async function ping(docker: Docker, abortSignal: AbortSignal): Promise<void> {
  await (docker as unknown as { ping(options: object): Promise<unknown> }).ping({ abortSignal });
}

/** `GET /events`, from now on. */
export async function openEvents(
  docker: Docker,
  filters: Record<string, string[]>,
  abortSignal: AbortSignal,
): Promise<Readable> {
  return (await docker.getEvents({ filters, abortSignal } as object)) as Readable;
}

/**
 * `POST /containers/create`; resolves to the id. Without `_query` dockerode would put the whole body, secrets included,
 * into the URL as well.
 */
export async function createContainer(docker: Docker, name: string, body: ContainerCreateOptions): Promise<string> {
  const options = { _query: { name }, _body: body } as unknown as ContainerCreateOptions;
  return (await docker.createContainer(options)).id;
}

/** `POST /images/create`: a pull. The image is named by `fromImage` (with a digest, if any) and `tag`. */
export async function pullImage(
  docker: Docker,
  image: { fromImage: string; tag?: string },
  abortSignal: AbortSignal,
): Promise<Readable> {
  return (await docker.createImage({ ...image, abortSignal })) as Readable;
}

/** `POST /images/load`, with progress: it shows that a large layer is still being unpacked. */
export async function loadImage(docker: Docker, archive: Readable, abortSignal: AbortSignal): Promise<Readable> {
  return (await docker.loadImage(archive, { quiet: false, abortSignal } as object)) as unknown as Readable;
}

/**
 * `GET /containers/{id}/logs`: the last `lines` of stdout and stderr, with `follow` and all that come. dockerode's own call reads the whole answer, and
 * turns into an object what happens to be JSON.
 */
export async function openLogs(
  docker: Docker,
  id: string,
  { lines, follow }: { lines: number; follow: boolean },
  abortSignal: AbortSignal,
): Promise<Readable> {
  const modem = docker.modem as unknown as { dial: Dial };
  return new Promise<Readable>((resolve, reject) => {
    modem.dial(
      {
        path: `/containers/${id}/logs?`,
        method: 'GET',
        isStream: true,
        options: { stdout: true, stderr: true, tail: lines, follow },
        statusCodes: { 200: true },
        abortSignal,
      },
      (error, stream) => {
        if (stream) resolve(stream);
        else reject(error);
      },
    );
  });
}

type Dial = (
  request: {
    path: string;
    method: string;
    isStream: boolean;
    options: Record<string, unknown>;
    statusCodes: Record<number, true>;
    abortSignal: AbortSignal;
  },
  done: (error: unknown, stream: Readable | null) => void,
) => void;
