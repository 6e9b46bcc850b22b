import type { JWTPayload } from 'jose'
import { Check, Default } from 'typebox/value'
import { LimitsEntry, permissions, type IssuerConfig, type LimitSettings } from '../../config/schema.ts'
import type { Caller, Permission } from './caller.ts'
import { tenantPattern } from '../../core/ids.ts'
import { badCredential } from './refusal.ts'

type ClaimRules = Pick<
  IssuerConfig,
  'issuer' | 'tenant' | 'tenantClaim' | 'rolesClaim' | 'limitsClaim' | 'roles' | 'rolesMax'
>

const nameCharsMax = 200

/** Who the bearer of a token is, from its claims. Throws unauthorized for one that is not of its kind. */
export function readClaims(payload: JWTPayload, rules: ClaimRules): Caller {
  const name = `${rules.issuer} ${typeof payload.sub === 'string' ? payload.sub : ''}`.trim()
  return {
    tenant: readTenant(payload, rules),
    keyId: null,
    name: name.slice(0, nameCharsMax),
    roles: readRoles(payload, rules),
    limits: readLimits(payload, rules),
  }
}

function readTenant(payload: JWTPayload, { tenant, tenantClaim }: ClaimRules): string {
  const found = tenant === '' ? findClaim(payload, tenantClaim) : tenant
  if (typeof found === 'string' && tenantPattern.test(found)) return found
  throw badCredential('The claim that names the tenant is missing or is not the name of one.')
}

/** Roles that are unknown here are none: the issuer may have others for other services. */
function readRoles(payload: JWTPayload, rules: ClaimRules): ReadonlySet<Permission> {
  const found = findClaim(payload, rules.rolesClaim)
  const named = found === undefined ? rules.roles : typeof found === 'string' ? found.split(' ') : found
  if (!Array.isArray(named))
    throw badCredential('The claim that lists the roles is neither a list nor words.')
  return new Set(permissions.filter((role) => rules.rolesMax.includes(role) && named.includes(role)))
}

/** A limit that can't be read must not become no limit. */
function readLimits(payload: JWTPayload, { limitsClaim }: ClaimRules): LimitSettings | null {
  const found = findClaim(payload, limitsClaim)
  if (found === undefined) return null
  const limits = Default(LimitsEntry, structuredClone(found))
  if (Check(LimitsEntry, limits)) return limits
  throw badCredential('The claim that holds the limits is not what it should be.')
}

/** A claim by its name, which may hold dots, or by the way to it: `realm_access.roles`. */
function findClaim(payload: JWTPayload, name: string): unknown {
  if (Object.hasOwn(payload, name)) return payload[name]
  let value: unknown = payload
  for (const step of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Record<string, unknown>)[step]
  }
  return value
}
