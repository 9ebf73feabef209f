import { type Readable, Transform } from 'node:stream';
import { messageOf, WunderproxyError } from '../errors.ts';
import { loadImage, pullImage } from './docker-api.ts';
import { type DockerClient, EngineRefusal, oneLine, unlessAborted } from './docker-client.ts';
import { jsonMessages } from './docker-stream.ts';
import { LoadProgress, PullProgress } from './image-progress.ts';
import { type ImageReference, parseReference } from './image-reference.ts';
import type { ConfigStore } from './store.ts';

/** Pulling or loading that shows no progress for so long is given up, in ms. */
const IDLE_LIMIT = 60_000;
const CALL_LIMIT = 10_000;
const TAG_LIMIT = 30_000;

/** What `ensure` needs to know besides the image's name. */
export interface ImageWish {
  /** Pull even if the engine has it. */
  reload: boolean;
  /** Where its `docker save` archive lies, for when no registry has it. */
  artifact: { Bucket: string; Key: string } | null;
  signal: AbortSignal;
  onProgress: (text: string) => void;
}

/** Gets images into the engine: from their registry, else from an archive in the store. */
export class ImageSource {
  readonly #client: DockerClient;
  readonly #openArtifact: ConfigStore['openArtifact'];

  constructor(client: DockerClient, openArtifact: ConfigStore['openArtifact']) {
    this.#client = client;
    this.#openArtifact = openArtifact;
  }

  /**
   * Resolves to the ports that the image exposes, such as `9292/tcp`, once the engine has it.
   * Throws `image_unavailable`, `runtime_unavailable`, `store_unavailable` or the signal's reason.
   */
  async ensure(image: string, wish: ImageWish): Promise<string[]> {
    const reference = parseReference(image);
    if (!reference) throw imageUnavailable(`${image} is not the name of an image.`);
    if (!wish.reload) {
      const ports = await this.#exposedPorts(image);
      if (ports) return ports;
    }
    const failure = await this.#pull(image, reference, wish);
    if (failure !== null) {
      if (!wish.artifact) throw imageUnavailable(`The image ${image} can not be pulled: ${failure}`);
      await this.#load(image, reference, wish.artifact, failure, wish);
    }
    const ports = await this.#exposedPorts(image);
    if (!ports) throw imageUnavailable(`The engine lacks the image ${image}, although it was fetched.`);
    return ports;
  }

  /** Null when the engine lacks the image. */
  async #exposedPorts(image: string): Promise<string[] | null> {
    try {
      const found = await this.#client.call(CALL_LIMIT, () => this.#client.docker.getImage(image).inspect());
      return Object.keys(found.Config?.ExposedPorts ?? {});
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      if (error.status === 404) return null;
      throw imageUnavailable(`The engine can not tell about the image ${image}: ${error.message}`);
    }
  }

  /** Resolves to why the image can't be pulled, or to null when it was. */
  async #pull(image: string, reference: ImageReference, wish: ImageWish): Promise<string | null> {
    const progress = new PullProgress(image, wish.onProgress);
    const wanted = reference.digest
      ? { fromImage: `${reference.name}@${reference.digest}` }
      : { fromImage: reference.name, tag: reference.tag ?? 'latest' };
    return this.#transfer(wish.signal, async (abortSignal, alive) => {
      const stream = await unlessAborted(abortSignal, pullImage(this.#client.docker, wanted, abortSignal));
      await this.#follow(stream, alive, progress);
    });
  }

  async #load(
    image: string,
    reference: ImageReference,
    artifact: { Bucket: string; Key: string },
    pullFailure: string,
    wish: ImageWish,
  ): Promise<void> {
    const place = `${artifact.Bucket}/${artifact.Key}`;
    const archive = await this.#openArtifact(artifact.Bucket, artifact.Key, wish.signal);
    if (!archive) {
      throw imageUnavailable(
        `The image ${image} can not be pulled (${pullFailure}), and there is no archive of it at ${place}.`,
      );
    }
    const progress = new LoadProgress(image, place, wish.onProgress);
    const broken = new AbortController();
    archive.on('error', (error) => {
      broken.abort(imageUnavailable(`The archive ${place} broke off: ${messageOf(error)}`));
    });
    const failure = await this.#transfer(AbortSignal.any([wish.signal, broken.signal]), async (abortSignal, alive) => {
      const upload = countBytes(archive, (bytes) => {
        alive();
        progress.sent(bytes);
      });
      const stream = await unlessAborted(abortSignal, loadImage(this.#client.docker, upload, abortSignal));
      await this.#follow(stream, alive, progress);
    }).finally(() => archive.destroy());
    if (failure !== null) throw imageUnavailable(`The archive ${place} can not be loaded: ${failure}`);
    await this.#name(image, reference, progress.loaded, place);
  }

  /** Gives what an archive held the name that it is wanted by. */
  async #name(image: string, wanted: ImageReference, loaded: string[], place: string): Promise<void> {
    if (wanted.digest) return;
    const tag = wanted.tag ?? 'latest';
    if (loaded.includes(`${wanted.name}:${tag}`)) return;
    const [only] = loaded;
    if (only === undefined || loaded.length > 1) {
      throw imageUnavailable(`The archive ${place} holds ${loaded.length} images, but not ${image}.`);
    }
    try {
      await this.#client.call(TAG_LIMIT, (abortSignal) =>
        this.#client.docker.getImage(only).tag({ repo: wanted.name, tag, abortSignal }),
      );
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      throw imageUnavailable(`The image ${only} of the archive ${place} can not be named ${image}: ${error.message}`);
    }
  }

  async #follow(stream: Readable, alive: () => void, progress: PullProgress | LoadProgress): Promise<void> {
    for await (const message of jsonMessages(stream)) {
      alive();
      // By then the status was 200.
      if (typeof message['error'] === 'string') throw new EngineRefusal(500, oneLine(message['error']));
      progress.take(message);
    }
    progress.end();
  }

  /**
   * Runs a transfer that may take long, but not without any sign of life (`alive`). Resolves to null, or to why the engine
   * or the registry refuses.
   */
  async #transfer(
    signal: AbortSignal,
    run: (abortSignal: AbortSignal, alive: () => void) => Promise<void>,
  ): Promise<string | null> {
    signal.throwIfAborted();
    this.#client.throwIfUnavailable();
    const idle = new AbortController();
    const timer = setTimeout(() => {
      idle.abort();
    }, IDLE_LIMIT);
    try {
      await run(AbortSignal.any([signal, idle.signal]), () => timer.refresh());
      return null;
    } catch (error) {
      signal.throwIfAborted();
      this.#client.throwIfUnavailable();
      if (idle.signal.aborted) return `nothing happened for ${IDLE_LIMIT / 1_000} s.`;
      if (error instanceof WunderproxyError) throw error;
      const meaning = this.#client.translate(error);
      if (meaning instanceof EngineRefusal) return meaning.message;
      throw meaning;
    } finally {
      clearTimeout(timer);
    }
  }
}

function imageUnavailable(message: string): WunderproxyError {
  return new WunderproxyError('image_unavailable', { message });
}

function countBytes(source: Readable, count: (bytes: number) => void): Transform {
  return source.pipe(
    new Transform({
      transform(chunk: Buffer, _encoding, done) {
        count(chunk.length);
        done(null, chunk);
      },
    }),
  );
}
