import { Type, type TSchema } from 'typebox'
import {
  dayMs,
  hourMs,
  usageGroups,
  usageWidths,
  type UsageQuery,
  type UsageSum,
} from '../../storage/usage-store.ts'
import { ErrorReply } from '../schemas.ts'
import { monthAt } from './spending.ts'
import { nameUsage, noKey, usageLimits } from './usage-query.ts'

const nullable = (schema: TSchema) => Type.Union([schema, Type.Null()])
const time = (description: string) =>
  Type.Union([Type.Number(), Type.String({ format: 'date-time' })], {
    description: `${description} Unix seconds, or ISO 8601 with a zone.`,
  })

const UsageObject = Type.Object({
  id: Type.String(),
  object: Type.Literal('usage'),
  start: Type.Integer({ description: 'Unix seconds; the first hour that is in it.' }),
  end: Type.Integer({ description: 'Unix seconds; where the last hour in it ends.' }),
  tenant: nullable(Type.String({ description: 'Null for all of those asked for.' })),
  key: nullable(
    Type.String({ description: `Id of the key, \`${noKey}\` for none; null for all of those asked for.` }),
  ),
  model: nullable(Type.String({ description: 'Null for all of those asked for.' })),
  requests: Type.Integer({ description: 'Answered, cached answers and tasks included.' }),
  failed_requests: Type.Integer({ description: 'Refused, failed or broken off.' }),
  prompt_tokens: Type.Integer(),
  cached_tokens: Type.Integer({ description: 'Part of `prompt_tokens`.' }),
  completion_tokens: Type.Integer(),
  seconds: Type.Number({ description: 'Time of answering, of all requests together.' }),
  cost: Type.Number({ description: 'By `prices` of the configuration, in their currency.' }),
})

export const usageSchema = {
  tags: ['usage'],
  summary: 'What was used: requests, tokens, time and cost, by hour, day or month',
  querystring: Type.Object({
    start: Type.Optional(time('From this hour on (default: the beginning of this month, UTC).')),
    end: Type.Optional(time('Up to this time (default: now).')),
    width: Type.Optional(
      Type.Enum([...usageWidths], {
        default: 'day',
        description: 'How much time a sum is of, in UTC; `all` for one sum of all.',
      }),
    ),
    group_by: Type.Optional(
      Type.String({ description: `One or more of ${usageGroups.join(', ')}, with commas or given again.` }),
    ),
    tenant: Type.Optional(
      Type.String({ description: 'Another tenant, or `*` for all; with the permission `admin`.' }),
    ),
    key: Type.Optional(Type.String({ description: `The id of a key, or \`${noKey}\`.` })),
    model: Type.Optional(Type.String()),
    after: Type.Optional(Type.String({ description: 'The `last_id` of the page before.' })),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: usageLimits.limitMax, default: usageLimits.limitDefault }),
    ),
  }),
  response: {
    200: Type.Object({
      object: Type.Literal('list'),
      data: Type.Array(UsageObject),
      first_id: nullable(Type.String()),
      last_id: nullable(Type.String()),
      has_more: Type.Boolean(),
    }),
    '4xx': ErrorReply,
    '5xx': ErrorReply,
  },
}

/** A sum as `GET /v1/usage` shows it. */
export function describeUsage(sum: UsageSum, query: UsageQuery) {
  const { groups } = query
  return {
    id: nameUsage(sum),
    object: 'usage',
    start: Math.max(sum.atMs, query.fromMs) / 1_000,
    end: Math.min(endOf(sum, query), query.toMs) / 1_000,
    tenant: groups.includes('tenant') ? sum.tenant : (query.tenant ?? null),
    key: showKey(groups.includes('key') ? sum.key : (query.key ?? null)),
    model: groups.includes('model') ? sum.model : (query.model ?? null),
    requests: sum.requests,
    failed_requests: sum.failedRequests,
    prompt_tokens: sum.promptTokens,
    cached_tokens: sum.cachedTokens,
    completion_tokens: sum.completionTokens,
    seconds: Math.round(sum.busyMs) / 1_000,
    // What is left of adding fractions is no part of a price.
    cost: Number(sum.cost.toPrecision(12)),
  }
}

const showKey = (key: string | null) => (key === '' ? noKey : key)

function endOf({ atMs }: UsageSum, { width }: UsageQuery): number {
  switch (width) {
    case 'hour':
      return atMs + hourMs
    case 'day':
      return atMs + dayMs
    case 'month':
      return monthAt(atMs, 1)
    case 'all':
      return Infinity
  }
}
