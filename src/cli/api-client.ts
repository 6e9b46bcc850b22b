import { SetupError } from '../core/errors.ts'
import { readEvents } from '../core/sse.ts'
import { commandName } from '../core/command-name.ts'

/** A running server as the commands talk to it. */
export type Server = { url: string; apiKey: string | null }

/** The body and its type, for `ask`. */
export const jsonBody = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

/** One entry of `GET /v1/models`; other servers leave the counts out. */
export type ListedModel = {
  id: string
  alias_of?: string
  instances?: { total: number; available: number }
}

type ErrorReply = { error?: { message?: unknown } | string }

/** The server of `--url`, `AUTOGLM_URL` or the default, with the key of `AUTOGLM_API_KEY`. */
export function findServer(url: string | undefined, env: NodeJS.ProcessEnv): Server {
  const text = url ?? (env.AUTOGLM_URL || 'http://127.0.0.1:8080')
  if (!/^https?:\/\/./.test(text) || !URL.canParse(text)) {
    throw new SetupError(`--url ${text} is not a URL; write one such as http://127.0.0.1:8080`)
  }
  const { origin, pathname } = new URL(text)
  // People paste the base URL that other clients want.
  return {
    url: `${origin}${pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`,
    apiKey: env.AUTOGLM_API_KEY || null,
  }
}

/** Nobody listens there. */
export class NoServer extends SetupError {}

/** Somebody listens there: what of TLS does not go together, by the code of Node or OpenSSL. */
function explainTls({ url }: Server, code: string): string | null {
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER') return `${url} does not speak HTTPS; try it with http://`
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return `the certificate of ${url} is for another host (${code})`
  if (code === 'CERT_HAS_EXPIRED') return `the certificate of ${url} has expired`
  if (!/^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_)/.test(code)) return null
  return `the certificate of ${url} is signed by nobody who is known here (${code}); name the file of who signed it in NODE_EXTRA_CA_CERTS`
}

function explainFailure(server: Server, error: unknown): SetupError {
  const { cause } = error as { cause?: { code?: string; message?: string } }
  const reason = cause?.code ?? cause?.message ?? (error instanceof Error ? error.message : String(error))
  const tls = explainTls(server, reason)
  if (tls !== null) return new SetupError(tls, { cause: error })
  if (reason === 'UND_ERR_SOCKET') {
    const guess = server.url.startsWith('https:')
      ? 'does it ask for a client certificate, which the commands have none of?'
      : 'does it speak HTTPS?'
    return new SetupError(`${server.url} closed the connection without an answer; ${guess}`, { cause: error })
  }
  return new NoServer(
    `no server answers at ${server.url} (${reason}); start one with: ${commandName} serve\nor name another with --url`,
    { cause: error },
  )
}

function readMessage(text: string): string | null {
  try {
    const { error } = JSON.parse(text) as ErrorReply
    if (typeof error === 'string') return error
    return typeof error?.message === 'string' ? error.message : null
  } catch {
    return null
  }
}

const errorTextCharactersMax = 300

/** What a refusal says, and what to do about it. */
export async function explainStatus(server: Server, path: string, response: Response): Promise<SetupError> {
  const text = await response.text().catch(() => '')
  const said = readMessage(text) ?? text.trim().slice(0, errorTextCharactersMax)
  if (response.status === 401 || response.status === 403) {
    // Whoever is known and may not is told what is missing.
    if (response.status === 403 && said !== '')
      return new SetupError(`${server.url} refuses the request: ${said}`)
    const way = server.apiKey === null ? 'set AUTOGLM_API_KEY' : 'check AUTOGLM_API_KEY'
    return new SetupError(`${server.url} refuses the request (${response.status}); ${way}`)
  }
  if (response.status === 404 && readMessage(text) === null) {
    return new SetupError(`${server.url}${path} is not there (404); is this an OpenAI-compatible server?`)
  }
  return new SetupError(`${server.url} answered ${response.status}${said === '' ? '' : `: ${said}`}`)
}

/** A request to the server. Throws a SetupError when nobody answers; aborting throws the signal's reason. */
export async function ask(server: Server, path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  if (server.apiKey !== null) headers.set('authorization', `Bearer ${server.apiKey}`)
  try {
    return await fetch(`${server.url}${path}`, { ...init, headers })
  } catch (error) {
    init.signal?.throwIfAborted()
    throw explainFailure(server, error)
  }
}

/** The JSON of a successful answer; anything else is a SetupError. */
export async function askForJson(server: Server, path: string, init: RequestInit = {}): Promise<unknown> {
  const response = await ask(server, path, init)
  if (!response.ok) throw await explainStatus(server, path, response)
  try {
    return await response.json()
  } catch (error) {
    throw new SetupError(`${server.url}${path} did not answer JSON; is this an OpenAI-compatible server?`, {
      cause: error,
    })
  }
}

type Page<Row> = { data: Row[]; has_more: boolean }

/** A list page by page, up to `rowsMax` rows. `Extra` is what its pages hold beside their rows. */
export async function* readPages<Row extends { id: string }, Extra = unknown>(
  server: Server,
  path: string,
  {
    query,
    pageMax,
    rowsMax = Infinity,
  }: { query: Record<string, string>; pageMax: number; rowsMax?: number },
): AsyncGenerator<Page<Row> & Extra> {
  let rows = 0
  let last: Row | undefined
  do {
    const limit = String(Math.min(pageMax, rowsMax - rows))
    const all = new URLSearchParams({ ...query, limit, ...(last && { after: last.id }) })
    const page = (await askForJson(server, `${path}?${all.toString()}`)) as Page<Row> & Extra
    if (!Array.isArray(page.data)) throw new SetupError(`${server.url}${path} did not answer a list`)
    yield page
    rows += page.data.length
    last = page.has_more ? page.data.at(-1) : undefined
  } while (last && rows < rowsMax)
}

export async function listModels(server: Server): Promise<ListedModel[]> {
  const { data } = (await askForJson(server, '/v1/models')) as { data?: ListedModel[] }
  if (!Array.isArray(data)) throw new SetupError(`${server.url}/v1/models did not answer a list of models`)
  return data
}

type Chunk = ErrorReply & {
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[]
}

function parseChunk(data: string): Chunk {
  try {
    return JSON.parse(data) as Chunk
  } catch (error) {
    throw new SetupError('the server sent an event that is not JSON', { cause: error })
  }
}

/** The pieces of one streamed answer. Throws a SetupError for an error of the server, before or amid the answer. */
export async function* streamChat(
  server: Server,
  body: Record<string, unknown>,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const path = '/v1/chat/completions'
  const response = await ask(server, path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  })
  if (!response.ok || response.body === null) throw await explainStatus(server, path, response)
  let ended = false
  try {
    for await (const data of readEvents(response.body)) {
      if (data === '[DONE]') return
      const chunk = parseChunk(data)
      if (chunk.error !== undefined) throw new SetupError(`the answer broke off: ${readMessage(data) ?? 'the server failed'}`)
      const choice = chunk.choices?.[0]
      if (choice?.delta?.content) yield choice.delta.content
      if (choice?.finish_reason) ended = true
    }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof SetupError) throw error
    throw new SetupError(`the answer broke off: the connection to ${server.url} was lost`, { cause: error })
  }
  if (!ended) throw new SetupError(`the answer broke off: ${server.url} ended it too early`)
} // prettier-ignore
