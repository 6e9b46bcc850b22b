import type { TaskSpec } from '../../src/queue/task.ts'

export const chatBody = (more: object = {}) => ({
  model: 'm',
  messages: [{ role: 'user', content: 'Hi' }],
  ...more,
})

/** A plain task, but for what is given. */
export const chatTask = (more: Partial<TaskSpec> = {}): TaskSpec => ({
  tenant: 't',
  work: { endpoint: '/v1/chat/completions', body: chatBody() },
  band: 50,
  runAtMs: null,
  deadlineMs: null,
  attemptsMax: null,
  metadata: {},
  webhook: null,
  idempotencyKey: null,
  parent: null,
  position: null,
  ...more,
})
