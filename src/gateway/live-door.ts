import type { IncomingHttpHeaders } from 'node:http'
import type { TenantSettings } from '../config/schema.ts'
import { fail } from '../core/errors.ts'
import type { Ask } from '../router/call.ts'
import type { ServiceTier } from '../router/calls/completion-call.ts'
import type { Limiter, LimitRequest, Pass } from './limits/limiter.ts'
import type { RequestRecord } from './request-record.ts'
import { mayUse } from './tenants/tenant-settings.ts'

/** What is asked for, before it is known whether it may be had. */
export type LiveRequest = {
  /** As the caller named it. */
  model: string
  /** What the name stands for; null for nothing. */
  resolved: string | null
  tier: ServiceTier | null
  /** Estimate of prompt and answer. */
  tokens: number
}

export type DoorParts = {
  settingsOf: (tenant: string) => TenantSettings
  limiter: Pick<Limiter, 'enter'>
  /** Throws budget_exceeded. A promise only where it has to be read what the tenant has spent. */
  checkBudget: (tenant: string, settings: TenantSettings) => void | Promise<void>
}

/** The most urgent first. */
const tierOrder: readonly ServiceTier[] = ['priority', 'default', 'flex']

/**
 * Lets a live request through to the models, or says why not: the model is not the tenant's, its budget is spent, a
 * limit is used up. Returns what the router is to know of who asks; what was taken from the limits is settled with
 * the record. A promise only where limits are shared, or a budget is asked for the first time, and somebody must be
 * asked.
 */
export function openDoor({ settingsOf, limiter, checkBudget }: DoorParts) {
  return function enter(
    record: RequestRecord,
    request: LiveRequest,
    headers: IncomingHttpHeaders,
  ): Ask | Promise<Ask> {
    const { caller } = record
    const settings = settingsOf(caller.tenant)
    const { model, resolved, tokens } = request
    if (!mayUse(settings, model, resolved)) {
      // As little there as a model that nobody serves.
      throw fail('model_not_found', {
        message: `The model \`${model.slice(0, 200)}\` is not served here; GET /v1/models lists those that are.`,
        param: 'model',
      })
    }
    const tier = chooseTier(request.tier, settings)
    const timeoutMs = readTimeoutMs(headers)
    const ask: Ask = {
      tenant: caller.tenant,
      weight: settings.weight,
      tier,
      deadlineMs: timeoutMs === null ? null : record.startedAtMs + timeoutMs,
      tokens,
    }
    const asked = { caller, settings, model: resolved ?? model, tier, tokens }
    const checked = checkBudget(caller.tenant, settings)
    if (checked instanceof Promise) return takeLater(checked, limiter, record, asked, ask)
    return take(limiter, record, asked, ask)
  }
}

export type LiveDoor = ReturnType<typeof openDoor>

function take(
  limiter: DoorParts['limiter'],
  record: RequestRecord,
  asked: LimitRequest,
  ask: Ask,
): Ask | Promise<Ask> {
  const taken = limiter.enter(asked)
  if (taken instanceof Promise) return taken.then((pass) => keep(record, pass, ask))
  return keep(record, taken, ask)
}

async function takeLater(
  checked: Promise<void>,
  limiter: DoorParts['limiter'],
  record: RequestRecord,
  asked: LimitRequest,
  ask: Ask,
): Promise<Ask> {
  await checked
  return take(limiter, record, asked, ask)
}

function keep(record: RequestRecord, pass: Pass, ask: Ask): Ask {
  // While somebody was asked, the client may have gone: nobody else would give back what was taken.
  if (record.done) pass.cancel()
  else record.pass = pass
  return ask
}

/** What the caller asks for, as far as its tenant may have it; what is usual for the tenant where it asks for nothing. */
function chooseTier(asked: ServiceTier | null, { serviceTier, serviceTierMax }: TenantSettings): ServiceTier {
  const wanted = asked ?? serviceTier
  return tierOrder.indexOf(wanted) < tierOrder.indexOf(serviceTierMax) ? serviceTierMax : wanted
}

/**
 * How long the client waits before it gives up, in ms: `x-autoglm-timeout-ms`, or the seconds that the `openai`
 * packages tell in `x-stainless-timeout`. Null when it does not say.
 */
function readTimeoutMs(headers: IncomingHttpHeaders): number | null {
  const own = headers['x-autoglm-timeout-ms']
  if (own !== undefined) {
    const ms = Number(own)
    if (Number.isFinite(ms) && ms > 0) return ms
    throw fail('invalid_request', {
      message: 'The header `x-autoglm-timeout-ms` must be a number of milliseconds above 0.',
      param: 'x-autoglm-timeout-ms',
    })
  }
  const seconds = Number(headers['x-stainless-timeout'] ?? NaN)
  return seconds > 0 ? seconds * 1000 : null
}
