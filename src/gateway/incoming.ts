import { IncomingMessage, type IncomingHttpHeaders } from 'node:http'
import { headersMax } from './request-head.ts'

/** Names as clients spell them, in small letters. Begun anew when it is full: who invents names spoils it for a moment. */
const spellings = new Map<string, string>()
const spellingsMax = 1_000
const nameCharsMax = 64

/**
 * Node's request. Its `headers` are read with the names of earlier requests, for Node makes each name small anew, at
 * every request. A header that comes twice, or is a list, is Node's matter, and so is a crowd of them.
 */
export class Incoming extends IncomingMessage {
  #headers: IncomingHttpHeaders | null = null

  static {
    Object.defineProperty(this.prototype, 'headers', {
      get(this: Incoming) {
        return (this.#headers ??= readHeaders(this.rawHeaders) ?? readAsNode(this))
      },
      set(this: Incoming, headers: IncomingHttpHeaders) {
        this.#headers = headers
      },
    })
  }
}

const readAsNode = (message: Incoming) => Reflect.get(IncomingMessage.prototype, 'headers', message)

function readHeaders(rawHeaders: readonly string[]): IncomingHttpHeaders | null {
  if (rawHeaders.length > 2 * headersMax) return null
  const headers: IncomingHttpHeaders = {}
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = toSmall(rawHeaders[at] as string)
    if (headers[name] !== undefined || name === 'set-cookie') return null
    headers[name] = rawHeaders[at + 1]
  }
  return headers
}

function toSmall(name: string): string {
  const known = spellings.get(name)
  if (known !== undefined) return known
  const small = name.toLowerCase()
  if (name.length > nameCharsMax) return small
  if (spellings.size >= spellingsMax) spellings.clear()
  spellings.set(name, small)
  return small
}
