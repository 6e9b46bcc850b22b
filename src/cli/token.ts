import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { TokenOptions } from './access.ts'
import { askForJson, findServer, jsonBody } from './api-client.ts'
import { readTime } from './flag-values.ts'

type TokenReply = { access_token: string; expires_in: number; scope: string; tenant: string }

/** Prints the token alone, so that a script can take it as it is. */
export async function printToken(options: TokenOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  if (server.apiKey === null) {
    throw new SetupError('there is no key to exchange; set AUTOGLM_API_KEY')
  }
  const { role, expires } = options
  const seconds = expires === undefined ? null : readSeconds(expires)
  const body = {
    ...(role === undefined ? {} : { roles: role.flatMap((names) => names.split(',')) }),
    ...(seconds === null ? {} : { expires_in: seconds }),
  }
  const reply = (await askForJson(server, '/auth/token', jsonBody(body))) as TokenReply
  process.stdout.write(`${options.json ? JSON.stringify(reply, null, 2) : reply.access_token}\n`)
  if (seconds !== null && reply.expires_in < seconds) {
    const most = 'as long as the server (auth.tokenTtlMs) and the key allow'
    process.stderr.write(`This token is good for ${reply.expires_in} s, ${most}.\n`)
  }
  return 0
}

function readSeconds(text: string): number {
  const nowMs = systemClock.wallMs()
  const time = readTime('--expires', text, nowMs)
  const untilMs = typeof time === 'number' ? time * 1_000 : Date.parse(time)
  const seconds = Math.round((untilMs - nowMs) / 1_000)
  if (seconds >= 1) return seconds
  throw new SetupError(`--expires ${text} is not allowed; a time to come, such as 10m`)
}
