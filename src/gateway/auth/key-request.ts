import { Type } from 'typebox'
import { LimitsEntry, permissions, type LimitSettings } from '../../config/schema.ts'
import { fail, type ApiError } from '../../core/errors.ts'
import { readTimeMs } from '../../queue/request-time.ts'
import { readSettings, refuseStrangers, type Fields } from '../read-settings.ts'
import type { Permission } from './caller.ts'
import type { NewKey } from './keys.ts'
import { tenantPattern } from '../../core/ids.ts'

const nameCharsMax = 200
const defaultRoles = ['inference', 'tasks', 'read'] as const

const Roles = Type.Array(Type.Enum([...permissions]), {
  description: `Without it: ${defaultRoles.join(', ')}.`,
})

/** What the document at /openapi.json says; the reading below names the way out. */
export const KeyRequest = Type.Object({
  tenant: Type.String({ description: 'Whose key it is.' }),
  name: Type.Optional(Type.String({ description: 'What it is for: shown in lists.' })),
  roles: Type.Optional(Roles),
  limits: Type.Optional(LimitsEntry),
  expires_at: Type.Optional(
    Type.Union([Type.Number(), Type.String({ format: 'date-time' }), Type.Null()], {
      description: 'Unix seconds, or ISO 8601 with a zone; without it the key does not expire.',
    }),
  ),
})

const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })

/** The body of `POST /v1/admin/keys`. Throws invalid_request, naming the field. */
export function parseKeyRequest(fields: Fields, nowMs: number): NewKey {
  refuseStrangers(fields, Object.keys(KeyRequest.properties))
  const { tenant, name = '', limits } = fields
  const expiresAtMs = readTimeMs(fields['expires_at'], 'expires_at')
  if (expiresAtMs !== null && expiresAtMs <= nowMs) throw invalid('expires_at', 'is in the past')
  if (typeof name !== 'string' || name.length > nameCharsMax || hasControls(name)) {
    throw invalid('name', `must be a line of at most ${nameCharsMax} characters`)
  }
  return {
    tenant: readTenant(tenant, 'tenant'),
    name,
    roles: readRoles(fields['roles']) ?? defaultRoles,
    limits:
      limits === undefined || limits === null
        ? null
        : (readSettings(LimitsEntry, limits, 'limits') as LimitSettings),
    expiresAtMs,
  }
}

export function readTenant(value: unknown, param: string): string {
  if (typeof value === 'string' && tenantPattern.test(value)) return value
  throw invalid(param, 'must be 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`')
}

/** Null when they are left out. */
export function readRoles(value: unknown): Permission[] | null {
  if (value === undefined || value === null) return null
  const allowed = permissions.join(', ')
  if (!Array.isArray(value) || value.length === 0) throw invalid('roles', `must be a list of ${allowed}`)
  const stranger = value.findIndex((role) => !permissions.includes(role as Permission))
  if (stranger !== -1) throw invalid(`roles[${stranger}]`, `must be one of ${allowed}`)
  return permissions.filter((role) => value.includes(role))
}

const hasControls = (text: string) => /[\u0000-\u001f\u007f]/.test(text)
