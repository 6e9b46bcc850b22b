import {
  decodeJwt,
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type CryptoKey,
  type JWTPayload,
  type ProtectedHeaderParameters,
} from 'jose'
import type { Clock } from '../../core/clock.ts'
import { ApiError } from '../../core/errors.ts'
import { StoreUnavailable } from '../../storage/store.ts'
import type { Caller } from './caller.ts'
import { badCredential } from './refusal.ts'
import type { Verified } from './verified.ts'

/** Somebody whose tokens are good here, and how they are looked at. */
export type TrustedIssuer = {
  issuer: string
  audiences: readonly string[]
  algorithms: readonly string[]
  leewayMs: number
  /** Oldest token that is taken, by its `iat`; Infinity where its `exp` is enough. */
  tokenAgeMaxMs: number
  /** How long a token that was verified needs no second look: its issuer may take a key back. */
  believedForMs: number
  /** The key that a header names. Nothing in the header is followed: its `kid` is compared, and nothing more. */
  findKey(header: ProtectedHeaderParameters): Promise<CryptoKey | Uint8Array>
  /** Who the bearer is. `keyExpiresAtMs`: when what the token was made from ends, Infinity for never. */
  admit(payload: JWTPayload): Promise<{ caller: Caller; keyExpiresAtMs: number }>
}

/** What a token may say that it is; `dpop+jwt`, `logout+jwt` and others are good for something else. */
const types: ReadonlySet<unknown> = new Set([undefined, 'JWT', 'jwt', 'at+jwt', 'application/at+jwt'])

/** Verifies JSON Web Tokens: of a trusted issuer, by an algorithm and a key of its own, for us, now. */
export class TokenJudge {
  readonly #issuers: ReadonlyMap<string, TrustedIssuer>
  readonly #clock: Clock

  constructor(issuers: readonly TrustedIssuer[], clock: Clock) {
    this.#issuers = new Map(issuers.map((issuer) => [issuer.issuer, issuer]))
    this.#clock = clock
  }

  /** Throws unauthorized, and issuer_unavailable when the keys of the issuer can't be read. */
  async judge(token: string): Promise<Verified> {
    try {
      return await this.#judge(token)
    } catch (error) {
      throw explain(error)
    }
  }

  async #judge(token: string): Promise<Verified> {
    const header = decodeProtectedHeader(token)
    const claimed = decodeJwt(token)
    const trusted = typeof claimed.iss === 'string' ? this.#issuers.get(claimed.iss) : undefined
    if (!trusted) throw badCredential('The issuer of the token is not trusted here.')
    // Said before any key is looked for; the library checks it once more.
    if (typeof header.alg !== 'string' || !trusted.algorithms.includes(header.alg)) {
      throw badCredential('The issuer of the token does not sign in this way.')
    }
    if (header.crit !== undefined) throw badCredential('The token wants what is not understood here.')
    if (!types.has(header.typ)) throw badCredential('The token is of another type.')
    const key = await trusted.findKey(header)
    const nowMs = this.#clock.wallMs()
    const { payload } = await jwtVerify(token, key, {
      issuer: trusted.issuer,
      audience: [...trusted.audiences],
      algorithms: [...trusted.algorithms],
      clockTolerance: trusted.leewayMs / 1_000,
      ...(trusted.tokenAgeMaxMs < Infinity && { maxTokenAge: trusted.tokenAgeMaxMs / 1_000 }),
      requiredClaims: ['exp', 'iat'],
      currentDate: new Date(nowMs),
    })
    const { caller, keyExpiresAtMs } = await trusted.admit(payload)
    const endsAtMs = Math.min(payload.exp! * 1_000, payload.iat! * 1_000 + trusted.tokenAgeMaxMs)
    return {
      caller,
      expiresAtMs: Math.min(endsAtMs + trusted.leewayMs, keyExpiresAtMs, nowMs + trusted.believedForMs),
      issuer: trusted.issuer,
    }
  }
}

const claimReasons: Readonly<Record<string, string>> = {
  aud: 'The token is meant for another audience.',
  exp: 'The token has no time at which it expires.',
  iat: 'The token does not say when it was issued, or says a time to come.',
  iss: 'The issuer of the token is not trusted here.',
  nbf: 'The token is not valid yet.',
}

/** What the library threw, as an answer; its own messages may quote the token. */
function explain(error: unknown): unknown {
  if (error instanceof ApiError || error instanceof StoreUnavailable) return error
  if (error instanceof errors.JWTExpired) {
    return badCredential(error.claim === 'iat' ? 'The token is too old.' : 'The token has expired.')
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    return badCredential(claimReasons[error.claim] ?? 'A claim of the token is not what it should be.')
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return badCredential('The signature of the token does not fit.')
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return badCredential('The token was signed with a key that its issuer does not have.')
  }
  if (error instanceof errors.JWKSMultipleMatchingKeys) {
    return badCredential('The token does not say which key of its issuer it was signed with.')
  }
  return badCredential('This is neither a key nor a token that can be read.')
}
