import { randomUUID } from 'node:crypto'
import { SignJWT, type JWTPayload } from 'jose'
import { ownIssuer } from '../../config/schema.ts'
import type { Clock } from '../../core/clock.ts'
import type { Caller, Permission } from './caller.ts'
import { toRoles, type KeyJudge } from './key-judge.ts'
import { isKeyId } from './key-text.ts'
import { badCredential, missingPermission } from './refusal.ts'
import type { TrustedIssuer } from './token-judge.ts'
import { tokenAlgorithm, type TokenKeys } from './token-keys.ts'

export type IssuedToken = { token: string; expiresInMs: number; roles: readonly Permission[]; tenant: string }

/** Makes short-lived tokens from keys, and knows them again. */
export class TokenIssuer {
  readonly #keys: TokenKeys
  readonly #judge: KeyJudge
  readonly #clock: Clock
  readonly #ttlMs: number

  constructor(parts: { keys: TokenKeys; judge: KeyJudge; clock: Clock; ttlMs: number }) {
    this.#keys = parts.keys
    this.#judge = parts.judge
    this.#clock = parts.clock
    this.#ttlMs = parts.ttlMs
  }

  /** A token for the holder of a key, with some of its roles, good for no longer than the key. */
  async issue(
    keyId: string,
    wanted: { roles: readonly Permission[] | null; ttlMs: number | null },
  ): Promise<IssuedToken> {
    const { caller, expiresAtMs } = await this.#judge.findLive(keyId)
    const roles = [...caller.roles].filter((role) => wanted.roles?.includes(role) ?? true)
    if (roles.length === 0 && wanted.roles !== null) {
      throw missingPermission('The key has none of these roles.', wanted.roles)
    }
    const nowMs = this.#clock.wallMs()
    const ttlMs = Math.min(wanted.ttlMs ?? this.#ttlMs, this.#ttlMs, expiresAtMs - nowMs)
    const iat = Math.floor(nowMs / 1_000)
    // What is left of a key may be less than a second: that is rounded up, for the key itself is looked at too.
    const exp = iat + Math.max(1, Math.floor(ttlMs / 1_000))
    const { kid, key } = await this.#keys.findSigning()
    const claims = {
      tenant: caller.tenant,
      roles,
      key: keyId,
      ...(caller.limits && { limits: caller.limits }),
    }
    const token = await new SignJWT({
      ...claims,
      ...{ iss: ownIssuer, aud: ownIssuer, sub: keyId, iat, exp, jti: randomUUID() },
    })
      .setProtectedHeader({ alg: tokenAlgorithm, kid, typ: 'at+jwt' })
      .sign(key)
    return { token, expiresInMs: (exp - iat) * 1_000, roles, tenant: caller.tenant }
  }

  /** This server as one of those whose tokens it takes. */
  toTrusted(): TrustedIssuer {
    return {
      issuer: ownIssuer,
      audiences: [ownIssuer],
      algorithms: [tokenAlgorithm],
      leewayMs: 0,
      // When it was made is not asked: the clock of the server that made it may be ahead of this one.
      tokenAgeMaxMs: Infinity,
      // The keys that sign, and those that tokens are made from, are followed.
      believedForMs: Infinity,
      findKey: ({ kid }) => this.#keys.findVerifying(kid),
      admit: (payload) => this.#admit(payload),
    }
  }

  /** The key behind a token is looked at as it is now: when it is revoked, so are its tokens. */
  async #admit({ key, roles }: JWTPayload): Promise<{ caller: Caller; keyExpiresAtMs: number }> {
    if (typeof key !== 'string' || !isKeyId(key) || !Array.isArray(roles)) {
      throw badCredential('A claim of the token is not what it should be.')
    }
    const { caller, expiresAtMs } = await this.#judge.findLive(key)
    const kept = [...toRoles(roles as string[])].filter((role) => caller.roles.has(role))
    return { caller: { ...caller, roles: new Set(kept) }, keyExpiresAtMs: expiresAtMs }
  }
}
