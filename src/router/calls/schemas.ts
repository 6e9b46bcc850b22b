import { Type } from 'typebox'

/**
 * What the gateway itself requires of a body. Everything else in it belongs to the instance, which knows what it
 * supports: unknown fields pass unchanged.
 */
const common = {
  model: Type.String({ minLength: 1, maxLength: 512, description: 'A model of GET /v1/models, or an alias.' }),
  user: Type.Optional(Type.Union([Type.String(), Type.Null()], { description: 'Keeps a conversation together under the `session` policy.' })),
  service_tier: Type.Optional(Type.Union([Type.Enum(['auto', 'default', 'flex', 'priority']), Type.Null()], { description: 'How urgent it is beside others: `priority` waits least, `flex` longest and is refused first.' })),
} // prettier-ignore

const streaming = {
  stream: Type.Optional(Type.Union([Type.Boolean(), Type.Null()], { description: 'Answer as server-sent events.' })),
  stream_options: Type.Optional(Type.Union([Type.Object({ include_usage: Type.Optional(Type.Boolean()) }, { additionalProperties: true }), Type.Null()])),
  max_tokens: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.Null()])),
  temperature: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
} // prettier-ignore

export const CompletionBody = Type.Object(
  {
    ...common,
    prompt: Type.Union([Type.String(), Type.Array(Type.Unknown(), { minItems: 1 })], {
      description: 'A text, an array of texts, an array of token ids, or an array of those.',
    }),
    ...streaming,
  },
  { additionalProperties: true },
)

export const ChatBody = Type.Object(
  {
    ...common,
    messages: Type.Array(
      Type.Object(
        { role: Type.String({ minLength: 1 }), content: Type.Optional(Type.Unknown()) },
        { additionalProperties: true },
      ),
      { minItems: 1 },
    ),
    ...streaming,
  },
  { additionalProperties: true },
)

export const EmbeddingBody = Type.Object(
  {
    ...common,
    input: Type.Union([Type.String(), Type.Array(Type.Unknown(), { minItems: 1 })], {
      description: 'A text, an array of texts, an array of token ids, or an array of those.',
    }),
  },
  { additionalProperties: true },
)
