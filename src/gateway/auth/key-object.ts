import { Type, type TSchema } from 'typebox'
import { LimitsEntry, permissions } from '../../config/schema.ts'
import type { KeyRow } from '../../storage/access-store.ts'

const nullable = (schema: TSchema, description?: string) =>
  Type.Union([schema, Type.Null()], description === undefined ? {} : { description })
const seconds = Type.Integer({ description: 'Unix seconds' })

/** A key as the routes of administration show it. */
export const KeyObject = Type.Object({
  id: Type.String(),
  object: Type.Literal('key'),
  tenant: Type.String(),
  name: Type.String(),
  status: Type.Enum(['active', 'expired', 'revoked']),
  roles: Type.Array(Type.Enum([...permissions])),
  limits: nullable(LimitsEntry, 'Limits of the key itself, beside those of its tenant.'),
  created_at: seconds,
  expires_at: nullable(seconds),
  revoked_at: nullable(seconds),
})

const toSeconds = (ms: number) => Math.floor(ms / 1_000)
const toSecondsOrNull = (ms: number | null) => (ms === null ? null : toSeconds(ms))

export function describeKey(key: KeyRow, nowMs: number) {
  const isExpired = key.expiresAtMs !== null && key.expiresAtMs <= nowMs
  return {
    id: key.id,
    object: 'key',
    tenant: key.tenant,
    name: key.name,
    status: key.revokedAtMs !== null ? 'revoked' : isExpired ? 'expired' : 'active',
    roles: key.roles,
    limits: key.limits === null ? null : parseLimits(key.limits),
    created_at: toSeconds(key.createdAtMs),
    expires_at: toSecondsOrNull(key.expiresAtMs),
    revoked_at: toSecondsOrNull(key.revokedAtMs),
  }
}

/** A key whose limits can't be read is refused, and must be found in the list and revoked all the same. */
function parseLimits(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
