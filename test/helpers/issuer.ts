import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey, type JWK, type JWTPayload } from 'jose'
import type { Clock } from '../../src/core/clock.ts'

export type IssuerKey = { alg: string; kid: string; privateKey: CryptoKey; publicJwk: JWK }

export async function makeIssuerKey(alg: string, kid: string): Promise<IssuerKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { alg, kid, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

export const issuerName = 'https://id.example.com/'

/** What a good token of the test issuer says, in seconds of the clock. */
export const goodClaims = (clock: Clock): JWTPayload => {
  const now = Math.floor(clock.wallMs() / 1_000)
  const about = { iss: issuerName, aud: 'api', sub: 'user-1', tenant: 'acme', roles: ['inference'] }
  return { ...about, iat: now, exp: now + 300 }
}

export const sign = (
  { alg, kid, privateKey }: IssuerKey,
  claims: JWTPayload,
  header: Record<string, unknown> = {},
): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ alg, kid, typ: 'JWT', ...header }).sign(privateKey)

/** A server of public keys that counts how often it is asked, and answers as it is told. */
export class KeyServer implements AsyncDisposable {
  asked = 0
  keys: JWK[] = []
  /** In place of the keys. */
  answer: ((respond: { status: (code: number, headers?: Record<string, string>) => void; send: (text: string) => void }) => void) | null = null
  readonly #server: Server

  private constructor() {
    this.#server = createServer((_request, response) => {
      this.asked += 1
      if (!this.answer) return response.end(JSON.stringify({ keys: this.keys }))
      this.answer({
        status: (code, headers = {}) => void response.writeHead(code, headers).end(),
        send: (text) => void response.end(text),
      })
    })
  }

  static async start(keys: JWK[] = []): Promise<KeyServer> {
    const server = new KeyServer()
    server.keys = keys
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/jwks.json`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }
} // prettier-ignore
