import { SetupError } from '../core/errors.ts'
import type { HubSource } from './model-source.ts'

/** What the hub and the host that it redirects to say about a file. */
export type HubAnswer = {
  response: Response
  /** SHA-256 of the whole file in hex, where the hub tells it. */
  sha256: string | null
  /** Length of the whole file, where it is known. */
  totalBytes: number | null
  /** The last host's own tag, by which it recognises the same file when a download is resumed. */
  etag: string | null
}

export type HubEnvironment = Readonly<Record<string, string | undefined>>

/** The answer is no; asking again would not change it. */
export class HubRefusal extends SetupError {}

/** A moment's failure: to be tried again, not before `retryAfterMs`. */
export class HubTrouble extends Error {
  readonly retryAfterMs: number

  constructor(message: string, retryAfterMs = 0) {
    super(message)
    this.name = 'HubTrouble'
    this.retryAfterMs = retryAfterMs
  }
}

const redirectsMax = 5
const retryAfterMsMax = 60_000

export const hubEndpoint = (env: HubEnvironment) =>
  (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '')

function hubUrl({ user, repo, revision, file }: HubSource, env: HubEnvironment): URL {
  const path = [
    user,
    repo,
    'resolve',
    encodeURIComponent(revision),
    ...file.split('/').map(encodeURIComponent),
  ]
  const text = `${hubEndpoint(env)}/${path.join('/')}`
  if (!URL.canParse(text))
    throw new SetupError('HF_ENDPOINT is not a URL; write one such as https://huggingface.co')
  return new URL(text)
}

/** `W/"abc"` -> `abc` */
const unquote = (tag: string | null) => tag?.replace(/^W\//, '').replaceAll('"', '') ?? null

function readLength(response: Response): number | null {
  const range = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')
  if (range) return Number(range[1])
  const length = response.status === 200 ? response.headers.get('content-length') : null
  return length === null ? null : Number(length)
}

function explainRefusal(response: Response, source: HubSource, env: HubEnvironment): HubRefusal {
  const { user, repo, revision, file } = source
  const page = `${hubEndpoint(env)}/${user}/${repo}`
  switch (response.status) {
    case 401:
    case 403:
      return new HubRefusal(
        env.HF_TOKEN
          ? `HF_TOKEN may not read ${page} (${response.status}); accept the terms of the model there, or use another token`
          : `${page} needs a token or does not exist (${response.status}); check the name, or set HF_TOKEN to a token that may read it`,
      )
    case 404: {
      const what = response.headers.get('x-error-code')
      if (what === 'RepoNotFound') return new HubRefusal(`${page} does not exist (404); check user and repo`)
      if (what === 'RevisionNotFound') return new HubRefusal(`${page} has no revision ${JSON.stringify(revision)} (404)`)
      return new HubRefusal(`${page} has no file ${JSON.stringify(file)} at ${revision} (404); its page lists the files`)
    }
    default:
      return new HubRefusal(`${page} answered ${response.status}; check the name of the file`)
  }
} // prettier-ignore

function toTrouble(response: Response): HubTrouble {
  const seconds = Number(response.headers.get('retry-after'))
  const waitMs = Number.isFinite(seconds) ? Math.min(retryAfterMsMax, Math.max(0, seconds * 1000)) : 0
  return new HubTrouble(`the hub answered ${response.status}`, waitMs)
}

/**
 * Asks the hub for a file from byte `fromByte` on, following its redirects. The token goes to the hub alone: the host
 * that holds the bytes gets a signed URL and must not see it. Throws HubRefusal, HubTrouble, or what fetch throws.
 */
export async function requestFile(options: {
  source: HubSource
  fromByte: number
  etag: string | null
  env: HubEnvironment
  fetch: typeof fetch
  signal: AbortSignal
}): Promise<HubAnswer> {
  const { source, env, signal } = options
  const first = hubUrl(source, env)
  let url = first
  let sha256: string | null = null
  let linkedBytes: number | null = null
  for (let redirects = 0; redirects <= redirectsMax; redirects += 1) {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' }
    if (env.HF_TOKEN && url.origin === first.origin) headers.authorization = `Bearer ${env.HF_TOKEN}`
    if (options.fromByte > 0 && options.etag !== null) {
      headers.range = `bytes=${options.fromByte}-`
      headers['if-range'] = options.etag
    }
    const response = await options.fetch(url, { headers, redirect: 'manual', signal })
    const tag = unquote(response.headers.get('x-linked-etag') ?? response.headers.get('etag'))
    // A file of the repository itself has a SHA-1 of git as its tag, an uploaded one the SHA-256 of its content.
    if (sha256 === null && tag !== null && /^[0-9a-f]{64}$/.test(tag)) sha256 = tag
    linkedBytes ??= Number(response.headers.get('x-linked-size')) || null

    const location = response.headers.get('location')
    if (response.status >= 300 && response.status < 400 && location !== null) {
      await response.body?.cancel()
      url = new URL(location, url)
      continue
    }
    if (response.status === 200 || response.status === 206 || response.status === 416) {
      const totalBytes = linkedBytes ?? readLength(response)
      return { response, sha256, totalBytes, etag: response.headers.get('etag') }
    }
    await response.body?.cancel()
    if (response.status === 408 || response.status === 429 || response.status >= 500)
      throw toTrouble(response)
    throw explainRefusal(response, source, env)
  }
  throw new HubRefusal(`${first.origin} redirects more than ${redirectsMax} times`)
}
