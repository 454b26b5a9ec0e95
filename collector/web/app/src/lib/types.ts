// The JSON that the collector speaks. Absent or null means "not known", never zero.

export type State = 'ok' | 'degraded' | 'down' | 'no_data';
export type PBXState = 'ok' | 'unreachable' | 'auth_failed' | 'busy';
export type Method = 'icmp' | 'stamp' | 'tcp' | 'tls' | 'dns' | 'stun';
export type Severity = 'critical' | 'warning' | 'info';

/** A value that may not be known. */
export type Maybe<T> = T | null | undefined;

export interface User {
  email: string;
  name: string;
  role: string;
}

export interface Session {
  signed_in: boolean;
  setup_needed: boolean;
  user?: User;
  product_version: string;
}

export interface Storage {
  ok: boolean;
  detail?: string;
  since_ms?: number;
}

export interface SiteRow {
  site_id: string;
  tenant: string;
  customer: string;
  site: string;
  state: State;
  reason?: string;
  since_ms?: number;
  open_incidents: number;
  pbx_name?: string;
  pbx_fqdn?: string;
  pbx_version?: string;
  pbx_state?: PBXState;
  trunks_registered?: number;
  trunks_total?: number;
  calls_active?: number;
  calls_max?: number;
  worst_loss_ratio?: number;
  worst_rtt_p50_us?: number;
  worst_target?: string;
  last_seen_ms?: number;
  agents_connected: number;
  agents_total: number;
}

export interface Fleet {
  generated_ms: number;
  storage: Storage;
  counts: Record<State, number>;
  sites: SiteRow[];
}

export interface Agent {
  agent_id: string;
  hostname: string;
  os: string;
  arch: string;
  version: string;
  connected: boolean;
  since_ms?: number;
  transport?: string;
  remote?: string;
  last_seen_ms?: number;
  spool_records?: number;
  spool_bytes?: number;
  spool_oldest_ms?: number;
  spool_degraded?: boolean;
  rss_bytes?: number;
  certificate_expires_ms?: number;
  clock_offset_ms?: number;
}

export interface PBX {
  observed_ms: number;
  state: PBXState;
  detail?: string;
  answer_ms?: number;
  fqdn?: string;
  version?: string;
  os?: string;
  calls_active?: number;
  calls_max?: number;
  extensions_registered?: number;
  extensions_total?: number;
  disk_used_percent?: number;
  disk_free_bytes?: number;
  disk_total_bytes?: number;
  recording_used_bytes?: number;
  recording_quota_bytes?: number;
  backup_scheduled?: boolean;
  last_backup_ms?: number;
  backup_count?: number;
  backup_newest_size_bytes?: number;
  licence_product?: string;
  licence_active?: boolean;
  licence_expires_ms?: number;
  maintenance_expires_ms?: number;
  support?: boolean;
  auto_update?: boolean;
  audit_log?: boolean;
}

export interface Trunk {
  item_id: string;
  observed_ms: number;
  number: string;
  name: string;
  host?: string;
  kind: string;
  registered: boolean;
  registration_needed: boolean;
  fail_code?: number | string;
  configuration_issue: boolean;
  channels_max?: number;
  calls_active?: number;
  since_ms?: number;
}

export interface SBC {
  item_id: string;
  observed_ms: number;
  name: string;
  connected: boolean;
  version?: string;
  latency_ms?: number;
  calls_active?: number;
  phones_registered?: number;
}

export interface Service {
  item_id: string;
  observed_ms: number;
  name: string;
  title?: string;
  status: string;
  memory_bytes?: number;
}

export interface Window {
  observed_ms: number;
  length_ms: number;
  sent: number;
  received: number;
  lost: number;
  rtt_min_us?: Maybe<number>;
  rtt_p10_us?: Maybe<number>;
  rtt_p50_us?: Maybe<number>;
  rtt_p90_us?: Maybe<number>;
  rtt_max_us?: Maybe<number>;
  jitter_us?: Maybe<number>;
  loss_ratio?: Maybe<number>;
  lost_forward?: Maybe<number>;
  lost_reverse?: Maybe<number>;
  fault?: string;
  detail?: string;
}

export interface Target {
  item_id: string;
  agent_id: string;
  method: Method;
  name: string;
  address: string;
  last?: Maybe<Window>;
}

export interface Change {
  observed_ms: number;
  subject: string;
  name: string;
  from?: string;
  to: string;
  detail?: string;
}

export interface Message {
  channel: string;
  kind: 'opened' | 'resolved';
  state: 'queued' | 'sent' | 'failed';
  at_ms?: number;
  error?: string;
}

export interface Incident {
  incident_id: number;
  tenant: string;
  customer: string;
  site: string;
  site_id: string;
  rule: string;
  title: string;
  severity: Severity;
  subject: string;
  state: 'open' | 'resolved';
  opened_ms: number;
  resolved_ms?: number;
  summary: string;
  advice?: string;
  evidence?: Maybe<{ label: string; value: string }[]>;
  messages?: Maybe<Message[]>;
}

export interface SiteDetail {
  row: SiteRow;
  agents: Agent[];
  pbx?: Maybe<PBX>;
  trunks: Trunk[];
  sbcs: SBC[];
  services: Service[];
  targets: Target[];
  incidents: Incident[];
  changes: Change[];
}

type Column = Maybe<number>[];

export interface Series {
  target: Target;
  from_ms: number;
  to_ms: number;
  step_ms: number;
  t_ms: number[];
  rtt_min_us: Column;
  rtt_p10_us: Column;
  rtt_p50_us: Column;
  rtt_p90_us: Column;
  rtt_max_us: Column;
  jitter_us: Column;
  loss_ratio: Column;
  sent: Column;
}

/** What agents have not delivered. Without numbers: a time in which none was made. */
export interface Gap {
  agent_id: string;
  label: string;
  epoch: string;
  from_seq?: Maybe<number>;
  to_seq?: Maybe<number>;
  records?: Maybe<number>;
  from_ms?: Maybe<number>;
  to_ms?: Maybe<number>;
}

export interface Gaps {
  from_ms: number;
  to_ms: number;
  gaps: Gap[];
  more: boolean;
}

export interface Tree {
  tenants: {
    tenant_id: string;
    name: string;
    customers: { customer_id: string; name: string; sites: { site_id: string; name: string }[] }[];
  }[];
}

export interface TokenRequest {
  tenant: string;
  customer: string;
  site: string;
  uses?: number;
  hours?: number;
}

export interface Token {
  token: string;
  command: string;
  expires_ms: number;
}

export interface WindowEvent {
  site_id: string;
  item_id: string;
  window: Window;
}
