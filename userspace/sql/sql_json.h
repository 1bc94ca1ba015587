/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpg_query's JSON as a tree. It is machine-made and well formed, so the reader is small: it works in place,
 * unescapes strings where they stand, folds {"SelectStmt":{...}} into one node of that type, and leaves out
 * what no one asks for (positions). Iterative: the depth of the input costs no stack.
 */
#ifndef DBFENCE_SQL_SQL_JSON_H
#define DBFENCE_SQL_SQL_JSON_H

#include "sql/sql_arena.h"

/* Every node type that PostgreSQL 15's raw parser makes. One that is not here makes the facts unknown. */
#define SQL_NODES(X) \
	X(Alias) X(RangeVar) X(GroupingFunc) X(NamedArgExpr) X(BoolExpr) X(SubLink) \
	X(CollateExpr) X(CaseExpr) X(CaseWhen) X(RowExpr) X(CoalesceExpr) X(MinMaxExpr) \
	X(SQLValueFunction) X(XmlExpr) X(NullTest) X(BooleanTest) X(SetToDefault) \
	X(CurrentOfExpr) X(JoinExpr) X(IntoClause) X(MergeAction) X(InsertStmt) X(DeleteStmt) \
	X(UpdateStmt) X(MergeStmt) X(SelectStmt) X(ReturnStmt) X(AlterTableStmt) \
	X(AlterTableCmd) X(AlterDomainStmt) X(GrantStmt) X(GrantRoleStmt) \
	X(AlterDefaultPrivilegesStmt) X(ClosePortalStmt) X(ClusterStmt) X(CopyStmt) \
	X(CreateStmt) X(DefineStmt) X(DropStmt) X(TruncateStmt) X(CommentStmt) X(FetchStmt) \
	X(IndexStmt) X(CreateFunctionStmt) X(AlterFunctionStmt) X(DoStmt) X(RenameStmt) \
	X(RuleStmt) X(NotifyStmt) X(ListenStmt) X(UnlistenStmt) X(TransactionStmt) X(ViewStmt) \
	X(LoadStmt) X(CreateDomainStmt) X(CreatedbStmt) X(DropdbStmt) X(VacuumStmt) \
	X(ExplainStmt) X(CreateTableAsStmt) X(CreateSeqStmt) X(AlterSeqStmt) X(VariableSetStmt) \
	X(VariableShowStmt) X(DiscardStmt) X(CreateTrigStmt) X(CreatePLangStmt) \
	X(CreateRoleStmt) X(AlterRoleStmt) X(DropRoleStmt) X(LockStmt) X(ConstraintsSetStmt) \
	X(ReindexStmt) X(CheckPointStmt) X(CreateSchemaStmt) X(AlterDatabaseStmt) \
	X(AlterDatabaseRefreshCollStmt) X(AlterDatabaseSetStmt) X(AlterRoleSetStmt) \
	X(CreateConversionStmt) X(CreateCastStmt) X(CreateOpClassStmt) X(CreateOpFamilyStmt) \
	X(AlterOpFamilyStmt) X(PrepareStmt) X(ExecuteStmt) X(DeallocateStmt) \
	X(DeclareCursorStmt) X(CreateTableSpaceStmt) X(DropTableSpaceStmt) \
	X(AlterObjectDependsStmt) X(AlterObjectSchemaStmt) X(AlterOwnerStmt) \
	X(AlterOperatorStmt) X(AlterTypeStmt) X(DropOwnedStmt) X(ReassignOwnedStmt) \
	X(CompositeTypeStmt) X(CreateEnumStmt) X(CreateRangeStmt) X(AlterEnumStmt) \
	X(AlterTSDictionaryStmt) X(AlterTSConfigurationStmt) X(CreateFdwStmt) X(AlterFdwStmt) \
	X(CreateForeignServerStmt) X(AlterForeignServerStmt) X(CreateUserMappingStmt) \
	X(AlterUserMappingStmt) X(DropUserMappingStmt) X(AlterTableSpaceOptionsStmt) \
	X(AlterTableMoveAllStmt) X(SecLabelStmt) X(CreateForeignTableStmt) \
	X(ImportForeignSchemaStmt) X(CreateExtensionStmt) X(AlterExtensionStmt) \
	X(AlterExtensionContentsStmt) X(CreateEventTrigStmt) X(AlterEventTrigStmt) \
	X(RefreshMatViewStmt) X(ReplicaIdentityStmt) X(AlterSystemStmt) X(CreatePolicyStmt) \
	X(AlterPolicyStmt) X(CreateTransformStmt) X(CreateAmStmt) X(CreatePublicationStmt) \
	X(AlterPublicationStmt) X(CreateSubscriptionStmt) X(AlterSubscriptionStmt) \
	X(DropSubscriptionStmt) X(CreateStatsStmt) X(AlterCollationStmt) X(CallStmt) \
	X(AlterStatsStmt) X(A_Expr) X(ColumnRef) X(ParamRef) X(FuncCall) X(A_Star) X(A_Indices) \
	X(A_Indirection) X(A_ArrayExpr) X(ResTarget) X(MultiAssignRef) X(TypeCast) \
	X(CollateClause) X(SortBy) X(WindowDef) X(RangeSubselect) X(RangeFunction) \
	X(RangeTableSample) X(RangeTableFunc) X(RangeTableFuncCol) X(TypeName) X(ColumnDef) \
	X(IndexElem) X(StatsElem) X(Constraint) X(DefElem) X(GroupingSet) X(ObjectWithArgs) \
	X(AccessPriv) X(CreateOpClassItem) X(TableLikeClause) X(FunctionParameter) \
	X(LockingClause) X(XmlSerialize) X(WithClause) X(InferClause) X(OnConflictClause) \
	X(CTESearchClause) X(CTECycleClause) X(CommonTableExpr) X(MergeWhenClause) X(RoleSpec) \
	X(TriggerTransition) X(PartitionElem) X(PartitionSpec) X(PartitionBoundSpec) \
	X(PartitionRangeDatum) X(PartitionCmd) X(VacuumRelation) X(PublicationObjSpec) \
	X(PublicationTable) X(Integer) X(Float) X(Boolean) X(String) X(BitString) X(List) \
	X(IntList) X(A_Const)

#define SQL_NODE_ENUM(name) N_##name,
enum sql_node_type { N_NONE, SQL_NODES(SQL_NODE_ENUM) N_UNKNOWN, N_MAX };
#undef SQL_NODE_ENUM

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct jnode {
	enum json_kind kind;
	enum sql_node_type type;	/* of a wrapped node; N_NONE for plain objects and values */
	const char *key;		/* NULL in arrays; borrowed: by the text */
	const char *str;		/* JSON_STRING; borrowed: by the text */
	int64_t num;			/* JSON_NUMBER, JSON_BOOL */
	struct jnode *child, *last, *next, *parent;	/* borrowed: by the arena */
};

/* To be called once before anything is parsed; later calls do nothing. */
void sql_json_init(void);

/* The tree of @text, which is overwritten and must outlive it; NULL when memory ran out or it is not such JSON. */
struct jnode *sql_json_parse(struct sql_arena *arena, char *text);

/* The field @key, or NULL. All of these accept NULL for @node. */
struct jnode *jnode_get(const struct jnode *node, const char *key);
const char *jnode_str(const struct jnode *node, const char *key);	/* NULL when absent */
bool jnode_bool(const struct jnode *node, const char *key);
int64_t jnode_num(const struct jnode *node, const char *key);		/* 0 when absent */
bool jnode_is(const struct jnode *node, const char *key, const char *value);
/* The value of a String node, or of a string; NULL for anything else. */
const char *jnode_text(const struct jnode *node);
/* Equal trees, apart from positions. */
bool jnode_equal(const struct jnode *a, const struct jnode *b);

#define jnode_for_each(item, list) \
	for (struct jnode *item = (list) ? (list)->child : NULL; item; item = item->next)

#endif
